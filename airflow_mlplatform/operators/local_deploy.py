"""Deployment on this machine: a model version takes over an endpoint, all at once or by steps."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable, ServingFailed
from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.hooks.mlflow import MlflowHook
from airflow_mlplatform.links import EndpointLink, ModelVersionLink
from airflow_mlplatform.operators.served_model import find_version
from airflow_mlplatform.runtime.model_server import ModelUnfit
from airflow_mlplatform.runtime.model_store import ModelStore
from airflow_mlplatform.runtime.serving import LocalServing, Outcome
from airflow_mlplatform.serving.plan import read_answer
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.arguments import read_argument
from airflow_mlplatform.specs.deployment import Rollout, Serving
from airflow_mlplatform.triggers.local_rolling import READY_TIMEOUT, LocalRolling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_mlplatform.runtime.serving_files import EnvManager, Servers
    from airflow_mlplatform.serving.state import Outcome as RolloutOutcome

__all__ = ["LocalDeployOperator"]

# What the front needs beside the server's own time: to notice the wish, and to be started.
MARGIN = timedelta(minutes=1)


class LocalDeployOperator(BaseOperator):
    """Serve a model version under the endpoint's stable address: all at once, or by steps as ``rollout`` says.

    A version that does not come up, or that the analysis does not hold for, changes nothing in the end: what served
    before serves, and the task fails with the reason. A retry, also after ``kill -9``, goes on with what the first try
    began. Of ``serving`` only name and replicas matter here (and namespace, in queries); protocol, resources and
    storage_secret belong to Kubernetes, and requests are MLflow's scoring protocol (``POST <endpoint>/invocations``).

    :param serving: the endpoint, as in a spec.
    :param model: the verdict of the promotion gate, or a dict with ``name`` and ``version`` or ``alias``; templated.
    :param rollout: how traffic moves, as in a spec; all at once if left out. The front divides the requests, and the
        shipped metrics are judged by what it counts; only queries of your own need Prometheus.
    :param resumes: the task of the same DAG that began the rollout and ended at its pause; ``answer`` says how it
        goes on.
    :param answer: output of the approval that followed the pause; templated.
    :param mlflow_conn_id: connection of MLflow; that of the ``[mlplatform]`` section if left out.
    :param prometheus_conn_id: connection of Prometheus; likewise.
    :param env_manager: where the model's packages come from: ``local`` (this Python), ``uv``, ``virtualenv`` or
        ``conda``.
    :param ready_timeout: how long a server may take to come up (default 5 minutes).
    :param deferrable: whether to wait in the triggerer; if left out, only where the rollout has steps. A server is up
        within seconds, and up to 3.3.2 Airflow retries a task that comes back from the triggerer before its executor
        has heard of the deferral.
    :returns: ``{"endpoint_url", "model", "version", "former_version"}``; with steps also ``strategy``, ``steps`` and
        ``result``: ``done``, ``unchanged``, ``paused`` or ``staying`` (an A/B test without a winner). A candidate that
        loses its A/B test skips the task, and so what follows.
    """

    template_fields: Sequence[str] = ("model", "answer", "mlflow_conn_id")
    operator_extra_links = (EndpointLink(), ModelVersionLink())
    ui_color = "#d4ecd9"

    def __init__(
        self,
        *,
        serving: Serving | Mapping[str, Any],
        model: Mapping[str, Any] | Any,
        rollout: Rollout | Mapping[str, Any] | None = None,
        resumes: str = "",
        answer: Any = None,
        mlflow_conn_id: str | None = None,
        prometheus_conn_id: str = "",
        env_manager: EnvManager = "local",
        ready_timeout: timedelta = READY_TIMEOUT,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.serving = read_argument(Serving, "serving", serving)
        self.rollout = read_argument(Rollout, "rollout", rollout or {})
        self.model = model
        self.resumes = resumes
        self.answer = answer
        self.mlflow_conn_id = mlflow_conn_id
        self.prometheus_conn_id = prometheus_conn_id
        self.env_manager: EnvManager = env_manager
        self.ready_timeout = ready_timeout
        self.deferrable = self._by_steps if deferrable is None else deferrable

    @property
    def _by_steps(self) -> bool:
        return self.rollout.strategy != "all-at-once"

    def execute(self, context: Context) -> dict[str, Any]:
        """Wish, record where, wait."""
        with failing_fast():
            hook, local = MlflowHook(self.mlflow_conn_id), self._local()
            version = find_version(self.model, hook)
            servers = self._rolling.servers(version, hook)
            local.ensure_front()
            context["ti"].xcom_push(key=EndpointLink.key, value=local.url(self.serving.name))
            context["ti"].xcom_push(key=ModelVersionLink.key, value=hook.version_url(version))
            return self._roll_out(context, servers) if self._by_steps else self._replace(local, servers)

    @property
    def _rolling(self) -> LocalRolling:
        return LocalRolling(
            serving=self.serving,
            rollout=self.rollout,
            env_manager=self.env_manager,
            ready_timeout=self.ready_timeout,
            prometheus_conn_id=self.prometheus_conn_id,
            resumes=self.resumes,
        )

    def _local(self) -> LocalServing:
        return LocalServing(settings().state_dir, settings().serving_address)

    def _replace(self, local: LocalServing, servers: Servers) -> dict[str, Any]:
        generation = local.apply(
            self.serving.name,
            servers.model,
            servers.folder,
            replicas=servers.replicas,
            env_manager=servers.env_manager,
            ready_timeout=self.ready_timeout,
        )
        if self.deferrable and local.outcome(self.serving.name, generation) is None:
            self._defer(generation)
        return self._interpret(local.wait(self.serving.name, generation, self.ready_timeout + MARGIN))

    def _defer(self, generation: int) -> NoReturn:
        # Airflow's base of triggers takes longer to import than everything else here, and parsing does not need it.
        from airflow_mlplatform.triggers.local_serving import LocalServingTrigger

        deadline = time.time() + (self.ready_timeout + MARGIN).total_seconds()
        trigger = LocalServingTrigger(
            state_dir=str(settings().state_dir),
            address=settings().serving_address,
            endpoint=self.serving.name,
            generation=generation,
            deadline=deadline,
        )
        self.defer(trigger=trigger, method_name=self.resume.__name__)

    def resume(self, context: Context, event: Any) -> dict[str, Any]:  # noqa: ARG002 - Airflow passes the context
        """Go on after the wait for a replacement."""
        from airflow_mlplatform.triggers.local_serving import read_event

        with failing_fast():
            return self._interpret(read_event(event))

    def _roll_out(self, context: Context, servers: Servers) -> dict[str, Any]:
        from airflow_mlplatform.triggers.local_rollout import LocalRolloutTrigger, roll_out

        work = self._rolling.work(context, servers, read_answer(self.answer))
        if self.deferrable:
            trigger = LocalRolloutTrigger(work.model_dump(mode="json", exclude_unset=True))
            self.defer(trigger=trigger, method_name=self.end_rollout.__name__)
        return self._ended(asyncio.run(roll_out(work, self.log)))

    def end_rollout(self, context: Context, event: Any) -> dict[str, Any]:  # noqa: ARG002 - Airflow passes the context
        """Go on after a rollout by steps."""
        from airflow_mlplatform.triggers.local_rollout import read_end

        with failing_fast():
            return self._ended(read_end(event).result())

    def _ended(self, outcome: RolloutOutcome) -> dict[str, Any]:
        self._tidy(self._local())
        if outcome.result in ("aborted", "stopped"):
            kind = ModelUnfit if outcome.lasting else ServingFailed
            raise kind(
                f"endpoint {self.serving.name!r}: the rollout of {outcome.model} {outcome.version} was "
                f"{outcome.result}: {outcome.why}"
            )
        if outcome.result == "kept":
            raise AirflowSkipException(f"{outcome.model} {outcome.version}: {outcome.why}")
        self.log.info("%s %s: %s", outcome.model, outcome.version, outcome.result)
        return {
            "endpoint_url": self._local().url(self.serving.name),
            "model": outcome.model,
            "version": outcome.version,
            "former_version": outcome.former_version or None,
            "strategy": outcome.strategy,
            "steps": list(outcome.steps),
            "result": outcome.result,
        }

    def _interpret(self, outcome: Outcome) -> dict[str, Any]:
        name, local = self.serving.name, self._local()
        if outcome.result == "lost":
            raise ServiceUnavailable(f"endpoint {name!r}: {outcome.message}; a retry goes on")
        if outcome.result != "ready" or outcome.model is None:
            kind = ModelUnfit if outcome.lasting else ServingFailed
            raise kind(f"endpoint {name!r}: {outcome.message}\n{self._still_serving(local)}")
        self._tidy(local)
        self.log.info("%s serves %s: POST %s/invocations", name, outcome.model, local.url(name))
        return {
            "endpoint_url": local.url(name),
            "model": outcome.model.name,
            "version": outcome.model.version,
            "former_version": outcome.former_version,
        }

    def _tidy(self, local: LocalServing) -> None:
        try:
            ModelStore(settings().state_dir).prune(local.used_folders())
        except (ConfigurationError, OSError) as error:
            self.log.warning("Old model folders are kept: %s", error)

    def _still_serving(self, local: LocalServing) -> str:
        status = local.status(self.serving.name)
        if status is None or status.serving is None:
            return "Nothing served before, so nothing serves now."
        return f"{status.serving.model} goes on serving."
