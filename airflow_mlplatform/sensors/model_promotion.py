"""Waits for a model version worth promoting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, get_args

from airflow.sdk import BaseSensorOperator, PokeReturnValue, XComArg
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException
from airflow.triggers.base import StartTriggerArgs

from airflow_mlplatform.exceptions import ConfigurationError, ServiceRefused, ServiceUnavailable
from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.links import ModelVersionLink
from airflow_mlplatform.metrics import VERDICTS
from airflow_mlplatform.promotion.waiting import (
    OnRefusal,
    PromotionEvent,
    decode_event,
    ending,
    look,
    parse_gate,
    parse_model,
    seen,
    tell,
)
from airflow_mlplatform.specs.deployment import Gate, ModelRef

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_mlplatform.clients.mlflow import MlflowClient, ModelVersion
    from airflow_mlplatform.promotion.verdict import Verdict

__all__ = ["ModelPromotionSensor"]

TRIGGER = "airflow_mlplatform.triggers.model_promotion.ModelPromotionTrigger"
GRACE = 30.0


class ModelPromotionSensor(BaseSensorOperator):
    """Waits, without a worker, for a model version that passes the gate, and returns the verdict.

    The verdict is a JSON object: ``promote``, ``summary`` (Markdown), ``outcome``, ``reasons``, ``candidate``
    (``name``, ``version``, ``run_id``, ``model_uri``, ``metrics``), ``champion`` (what it was compared with, or null)
    and ``model``. It is the argument of :class:`~airflow_mlplatform.operators.promote_model.PromoteModelOperator`.
    Why a candidate is refused is in the log, in XCom, and on the version as the tags ``mlplatform.verdict`` and
    ``mlplatform.verdict.reasons``. While no version bears the candidate's alias, it waits, whatever ``on_refusal`` is.

    :param model: the registered model and its two aliases; a dictionary may hold templates.
    :param gate: what the candidate must fulfil; nothing if left out; a dictionary may hold templates.
    :param on_refusal: what a refused candidate means: ``wait`` for a better one (default), ``skip`` what follows,
        or ``fail`` at once. With ``skip`` and ``fail``, a candidate that is the champion already means skip.
    :param mlflow_conn_id: connection id; that of the ``[mlplatform]`` section if left out.
    :param poll_interval: seconds between two looks; that of the ``[mlplatform]`` section if left out.
    :param deferrable: wait in the triggerer (default); if false, on a worker, by ``mode`` and ``poke_interval``.
    :param timeout: seconds; then the task fails, or is skipped with ``soft_fail``; Airflow's ``[sensors]
        default_timeout`` if left out.
    :raises ConfigurationError: for arguments that cannot be right.
    """

    template_fields: Sequence[str] = ("model", "gate", "mlflow_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"model": "json", "gate": "json"}
    operator_extra_links = (ModelVersionLink(),)
    ui_color = "#d9ead3"

    def __init__(
        self,
        *,
        model: ModelRef | dict[str, Any],
        gate: Gate | dict[str, Any] | None = None,
        on_refusal: OnRefusal = "wait",
        mlflow_conn_id: str | None = None,
        poll_interval: float | None = None,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if on_refusal not in get_args(OnRefusal):
            raise ConfigurationError(f"{self.task_id}: on_refusal is {on_refusal!r}; write wait, skip or fail")
        self.model = model.model_dump(mode="json") if isinstance(model, ModelRef) else model
        self.gate = gate.model_dump(mode="json") if isinstance(gate, Gate) else gate or {}
        self.on_refusal: OnRefusal = on_refusal
        self.mlflow_conn_id = mlflow_conn_id
        self.poll_interval = poll_interval
        self.deferrable = deferrable
        if not _templated([self.model, self.gate]):
            parse_model(self.model)
            parse_gate(self.gate)
        if deferrable and not _needs_a_worker([self.model, self.gate, mlflow_conn_id]):
            self.start_from_trigger = True
            self.start_trigger_args = StartTriggerArgs(
                trigger_cls=TRIGGER,
                trigger_kwargs={**self._trigger_arguments(), "deadline": None, "grace": self._grace},
                next_method="execute_complete",
                timeout=timedelta(seconds=self.timeout + GRACE),
            )

    def _trigger_arguments(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "gate": self.gate,
            "on_refusal": self.on_refusal,
            "mlflow_conn_id": self.mlflow_conn_id,
            "poll_interval": self.poll_interval,
        }

    @property
    def _grace(self) -> float:
        # Airflow cuts the timeout at execution_timeout, which leaves no grace.
        cut = self.execution_timeout is not None and self.execution_timeout.total_seconds() < self.timeout + GRACE
        return 0.0 if cut else GRACE

    def execute(self, context: Context) -> Any:
        """Start the wait from a worker: mapped tasks, ``dag.test()``, arguments that only a worker can render."""
        return self._wait_in_triggerer() if self.deferrable else self._wait_here(context)

    def _wait_here(self, context: Context) -> Any:
        with failing_fast():
            return super().execute(context)

    def _wait_in_triggerer(self) -> NoReturn:
        from airflow_mlplatform.triggers.model_promotion import ModelPromotionTrigger

        limits = [self.timeout, *([self.execution_timeout.total_seconds()] if self.execution_timeout else [])]
        deadline = datetime.now(UTC).timestamp() + min(limits)
        self.defer(
            trigger=ModelPromotionTrigger(**self._trigger_arguments(), deadline=deadline),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout + GRACE),
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """End the task as the trigger's event says."""
        with failing_fast():
            return self._end(context, decode_event(event))

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once, on a worker."""
        from airflow_mlplatform.hooks.mlflow import MlflowHook

        hook = MlflowHook(self.mlflow_conn_id)
        try:
            with hook.client() as client:
                verdict, version = self._look(client)
        except ServiceUnavailable as error:
            self.log.warning("%s", error)
            return PokeReturnValue(is_done=False)
        end = ending(verdict, self.on_refusal)
        event = seen(verdict, end, hook.version_url(version) if version else None)
        if end:
            VERDICTS.add(model=verdict.model.name, outcome=verdict.outcome)
        return PokeReturnValue(bool(end), self._end(context, event) if end else None)

    def _look(self, client: MlflowClient) -> tuple[Verdict, ModelVersion | None]:
        from airflow_mlplatform.clients.http import drive

        verdict, version = drive(look(parse_model(self.model), parse_gate(self.gate)), client.http)
        self.log.info("%s", verdict.summary)
        try:
            drive(tell(verdict, version), client.http)
        except ServiceRefused as error:
            self.log.warning("The verdict is not on the model version as tags: %s", error)
        return verdict, version

    def _end(self, context: Context, event: PromotionEvent) -> Any:
        if event.ending == "error":
            raise AirflowFailException(event.message)
        # A trigger that ends soon loses its last lines of log, so the worker tells the verdict too.
        self.log.info("%s", event.message)
        for key, value in event.xcoms.items():
            context["ti"].xcom_push(key=key, value=value)
        if event.ending == "timeout":
            raise AirflowSensorTimeout(event.message)
        if event.ending == "refused":
            raise AirflowFailException(event.message)
        if event.ending == "skipped":
            raise AirflowSkipException(event.message)
        return event.verdict


def _templated(value: Any) -> bool:
    return any(isinstance(leaf, XComArg) or "{{" in str(leaf) or "{%" in str(leaf) for leaf in _leaves(value))


def _needs_a_worker(value: Any) -> bool:
    # The triggerer renders templates too, but has no XComs for XComArgs, and a bare xcom_pull waits there for ever.
    return any(isinstance(leaf, XComArg) or "xcom_pull" in str(leaf) for leaf in _leaves(value))


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.items() for leaf in _leaves(item)]
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]
