"""What the tasks that change a SeldonDeployment have in common: whether they are meant, and where they find it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import TaskSkippedEvent, TriggerEvent
from pydantic import BaseModel, ConfigDict

from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed
from airflow_mlplatform.links import EndpointLink, GrafanaLink, ModelVersionLink
from airflow_mlplatform.serving.address import endpoint_url
from airflow_mlplatform.serving.state import Who
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.arguments import read_argument
from airflow_mlplatform.specs.deployment import Rollout, Serving
from airflow_mlplatform.triggers.kept_outcome import KeptOutcome
from airflow_mlplatform.triggers.rollout_metrics import report_end
from airflow_mlplatform.triggers.seldon_cluster import Place, open_around
from airflow_mlplatform.triggers.starting import FROM_TASK
from airflow_mlplatform.triggers.task import TaskTrigger, leave
from airflow_mlplatform.triggers.turn import NO

if TYPE_CHECKING:
    from airflow_mlplatform.serving.rolling import Around
    from airflow_mlplatform.serving.state import Outcome
    from airflow_mlplatform.training.provenance import Provenance

__all__ = ["SeldonPlan", "SeldonTask", "value_of", "who_is"]


class SeldonPlan(BaseModel):
    """What of a task is fixed while its DAG is built.

    :param mlflow_conn_id: Airflow connection (type mlflow); that of the ``[mlplatform]`` section if empty.
    :param prometheus_conn_id: Airflow connection (type prometheus); likewise.
    :param kubernetes_conn_id: Airflow connection (type kubernetes); likewise.
    :param by_worker: a worker ends the task, for what a trigger cannot do (asset events).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mlflow_conn_id: str = ""
    prometheus_conn_id: str = ""
    kubernetes_conn_id: str = ""
    by_worker: bool = False


P = TypeVar("P", bound=SeldonPlan)


class NotMeant(Exception):
    """This run of the DAG is for something else."""


class SeldonTask(TaskTrigger):
    """Base of triggers that change a SeldonDeployment.

    :param serving: JSON of ``Serving``, with the keys that were given and no others. Templated.
    :param plan: JSON of :class:`SeldonPlan`, or of what extends it.
    :param origin: see :class:`~airflow_mlplatform.triggers.starting.StartingTrigger`.
    :param only_if: if this renders to nothing, ``False`` or ``no``, the task is skipped. Templated.
    """

    arguments: ClassVar[tuple[str, ...]] = ("serving", "plan", "origin", "only_if")

    def __init__(
        self,
        serving: dict[str, Any],
        plan: dict[str, Any],
        origin: dict[str, Any] | None = None,
        only_if: str = "yes",
    ) -> None:
        super().__init__(plan, origin)
        self.serving = serving
        self.only_if = only_if

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event: the task's end, or what a worker has to do."""
        try:
            async for event in super().run():
                yield event
        except NotMeant:
            yield TaskSkippedEvent()

    async def stop(self, reason: str) -> None:
        """Leave the resource as it is; the next run of the task goes on from there."""
        self.log.warning("%s stays as it is, and so does its traffic: %s", self.serving.get("name"), reason)

    def meant(self) -> Serving:
        """Return the model server, if this run of the DAG is for this task.

        :raises NotMeant: if it is not.
        :raises ConfigurationError: if it is none.
        """
        if str(self.only_if).strip().lower() in NO:
            raise NotMeant
        return read_argument(Serving, "serving", self.serving)

    def around(
        self, serving: Serving, origin: Provenance, rollout: Rollout | None = None
    ) -> AbstractAsyncContextManager[Around]:
        """Open the way to the resource."""
        plan = self.read_plan(SeldonPlan)
        place = Place(serving.namespace, serving.name, plan.kubernetes_conn_id)
        return open_around(
            place, rollout or Rollout(), airflow_of(origin), plan.prometheus_conn_id, self.log, KeptOutcome(origin)
        )

    def url(self, serving: Serving, around: Around) -> str:  # noqa: ARG002 - for other places than a cluster
        """Return where the model answers; empty if nowhere."""
        return endpoint_url(around.live, settings().serving_url)

    def read_plan(self, kind: type[P]) -> P:
        """Return what was fixed while the DAG was built."""
        return kind.model_validate({key: value for key, value in self.plan.items() if key in kind.model_fields})

    async def tell(self, origin: Provenance, serving: Serving, outcome: Outcome, url: str) -> dict[str, Any]:
        """Leave in XCom what was done, and links to it; return the result.

        :param url: where the model answers within the cluster; empty if nowhere.
        :raises ConfigurationError: if the rollout failed, and no other try can mend it.
        :raises ProcessFailed: if it failed, and another try may help.
        """
        what = {
            "namespace": serving.namespace,
            "name": serving.name,
            "model": outcome.model,
            "version": outcome.version,
        }
        report_end(serving.namespace, serving.name, outcome)
        if settings().grafana_url:
            await leave(origin, filled(settings().grafana_url, what), GrafanaLink.key)
        if url:
            await leave(origin, url, EndpointLink.key)
        if outcome.result in ("aborted", "stopped"):
            raise (ConfigurationError if outcome.lasting else ProcessFailed)(_failure(serving, outcome))
        self.log.info("%s: %s%s", serving.name, outcome.result, f": {outcome.why}" if outcome.why else "")
        result = {
            "endpoint_url": url,
            "model": outcome.model,
            "version": outcome.version,
            "former_version": outcome.former_version,
            "strategy": outcome.strategy,
            "steps": list(outcome.steps),
            "result": outcome.result,
        }
        await leave(origin, result)
        return result

    async def tell_version(self, origin: Provenance, url: str) -> None:
        """Leave a link to the model version in XCom."""
        await leave(origin, url, ModelVersionLink.key)


def _failure(serving: Serving, outcome: Outcome) -> str:
    place, what = f"{serving.namespace}/{serving.name}", f"{outcome.model} {outcome.version}".strip()
    return f"{place}: the {outcome.action} of {what or 'it'} was {outcome.result}: {outcome.why}"


def who_is(origin: Provenance, task_id: str = "") -> Who:
    """Return whose rollout a task's is.

    :param task_id: of the task that began it, if that is another of the same run.
    """
    first = replace(origin, task_id=task_id) if task_id else origin
    return Who(
        id=first.key,
        attempt=origin.try_number,
        dag_id=origin.dag_id,
        run_id=origin.dag_run_id,
        task_id=origin.task_id,
        airflow=airflow_of(origin),
    )


def airflow_of(origin: Provenance) -> str:
    """Return the address of the Airflow that a task is of."""
    return origin.url.partition("/dags/")[0]


def filled(template: str, values: dict[str, str]) -> str:
    """Put values into an address; what is not known stays."""
    for key, value in values.items():
        template = template.replace(f"{{{key}}}", value)
    return template


async def value_of(argument: Any, origin: Provenance) -> Any:
    """Return an argument, or what the task that it names has returned.

    :raises ConfigurationError: if that task returned nothing.
    """
    if not (isinstance(argument, dict) and set(argument) == {FROM_TASK}):
        return argument
    task = argument[FROM_TASK]
    found = await XCom.aget_one(key="return_value", dag_id=origin.dag_id, task_id=task, run_id=origin.dag_run_id)
    if found is None:
        raise ConfigurationError(f"task {task} of this DAG run has returned nothing; clear it, then this one")
    return found
