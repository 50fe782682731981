"""The waiting half of :class:`~airflow_mlplatform.sensors.model_promotion.ModelPromotionSensor`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlplatform.clients.http import drive_async
from airflow_mlplatform.exceptions import ConfigurationError, ServiceRefused, ServiceUnavailable
from airflow_mlplatform.hooks.mlflow import MlflowHook
from airflow_mlplatform.metrics import VERDICTS
from airflow_mlplatform.promotion.waiting import (
    OnRefusal,
    PromotionEvent,
    encode_event,
    ending,
    look,
    parse_gate,
    parse_model,
    seen,
    tell,
)
from airflow_mlplatform.settings import settings
from airflow_mlplatform.triggers.outages import Outages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_mlplatform.clients.mlflow import AsyncMlflowClient, ModelVersion
    from airflow_mlplatform.promotion.verdict import Verdict

__all__ = ["ModelPromotionTrigger"]

ARGUMENTS = ("model", "gate", "on_refusal", "mlflow_conn_id", "poll_interval", "deadline", "grace")


class ModelPromotionTrigger(BaseTrigger):
    """Looks at the registry until the wait is over; a worker then ends the task.

    It could end the task itself (``TaskSuccessEvent``), but up to Airflow 3.3.2 what such an event leaves in XCom
    reaches other tasks as JSON text, and 3.3.0 and 3.3.2 disagree on whether a failure is retried.

    :param model: the registered model and its aliases, as JSON of ``ModelRef``; may hold templates.
    :param gate: what is asked, as JSON of ``Gate``; may hold templates.
    :param on_refusal: what a refused candidate means.
    :param mlflow_conn_id: connection id; that of the ``[mlplatform]`` section if ``None``.
    :param poll_interval: seconds between two looks; that of the ``[mlplatform]`` section if ``None``.
    :param deadline: when to give up, in seconds since 1970; if ``None``, ``grace`` before Airflow's own timeout.
    :param grace: seconds by which Airflow's own timeout comes after ours, which can say what was waited for.
    """

    def __init__(
        self,
        model: dict[str, Any],
        gate: dict[str, Any],
        on_refusal: OnRefusal = "wait",
        mlflow_conn_id: str | None = None,
        poll_interval: float | None = None,
        deadline: float | None = None,
        grace: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.gate = gate
        self.on_refusal: OnRefusal = on_refusal
        self.mlflow_conn_id = mlflow_conn_id
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.grace = grace
        self.timeout_after: datetime | None = None
        self.last: PromotionEvent | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in ARGUMENTS}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event, when the wait is over."""
        try:
            event = await self._wait()
        except (ConfigurationError, ServiceRefused) as error:
            event = PromotionEvent(ending="error", message=str(error))
        yield TriggerEvent(encode_event(event))

    async def _wait(self) -> PromotionEvent:
        hook = MlflowHook(self.mlflow_conn_id)
        outages = Outages(self.poll_interval or settings().registry_poll_interval, self.log)
        async with await hook.async_client() as client:
            while True:
                event = await self._look(client, hook, outages)
                left = self._seconds_left()
                if event is not None:
                    return event
                if left <= 0:
                    return self._timed_out(outages)
                await asyncio.sleep(min(outages.pause, left))

    async def _look(self, client: AsyncMlflowClient, hook: MlflowHook, outages: Outages) -> PromotionEvent | None:
        model, gate = parse_model(self.model), parse_gate(self.gate)
        try:
            verdict, version = await drive_async(look(model, gate), client.http)
            end = ending(verdict, self.on_refusal)
            event = seen(verdict, end, hook.version_url(version) if version else None)
            if self.last is None or self.last.verdict != event.verdict:
                await self._tell(client, verdict, version)
            outages.answered()
        except ServiceUnavailable as error:
            outages.failed(error)
            return None
        self.last = event
        return event if end else None

    async def _tell(self, client: AsyncMlflowClient, verdict: Verdict, version: ModelVersion | None) -> None:
        self.log.info("%s", verdict.summary)
        VERDICTS.add(model=verdict.model.name, outcome=verdict.outcome)
        try:
            await drive_async(tell(verdict, version), client.http)
        except ServiceRefused as error:
            self.log.warning("The verdict is not on the model version as tags: %s", error)

    def _seconds_left(self) -> float:
        deadline = self.deadline
        if deadline is None and self.timeout_after is not None:
            aware = self.timeout_after if self.timeout_after.tzinfo else self.timeout_after.replace(tzinfo=UTC)
            deadline = aware.timestamp() - self.grace
        return float("inf") if deadline is None else deadline - datetime.now(UTC).timestamp()

    def _timed_out(self, outages: Outages) -> PromotionEvent:
        name = parse_model(self.model).name
        what = f"no version of {name} was worth promoting before the timeout; train a better one or wait longer"
        if self.last is None or outages.failures:
            return PromotionEvent(ending="timeout", message=f"{what}. MLflow did not answer at the end.")
        return self.last.model_copy(update={"message": f"{what}.\n{self.last.message}"})
