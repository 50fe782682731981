"""The waiting half of a rollout by steps on this machine."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow.triggers.base import BaseTrigger, TriggerEvent
from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_mlplatform.exceptions import ConfigurationError, MlplatformError, ProcessFailed
from airflow_mlplatform.hooks.prometheus import PrometheusHook
from airflow_mlplatform.runtime.serving import LocalServing
from airflow_mlplatform.runtime.serving_files import Servers
from airflow_mlplatform.serving.local import LocalAround, LocalResource
from airflow_mlplatform.serving.plan import Answer, RolloutPlan
from airflow_mlplatform.serving.rolling import Rolling
from airflow_mlplatform.serving.state import Outcome, Who
from airflow_mlplatform.specs.deployment import Rollout, Serving
from airflow_mlplatform.triggers.dag_runs import goes_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_mlplatform.clients.prometheus import Answer as PrometheusAnswer

__all__ = ["LocalRollout", "LocalRolloutTrigger", "RolloutEnd", "look_around", "read_end", "roll_out"]


class LocalRollout(BaseModel):
    """Everything of a rollout that is fixed beforehand.

    :param state_dir: folder of the local runtime.
    :param address: ``host:port`` on which models are served.
    :param serving: the endpoint.
    :param rollout: how traffic moves.
    :param servers: the servers of the new model.
    :param who: whose rollout it is.
    :param answer: what a person said at the pause; empty if nobody was asked yet.
    :param prometheus_conn_id: connection for queries of one's own; that of the ``[mlplatform]`` section if empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    state_dir: Path
    address: str
    serving: Serving
    rollout: Rollout
    servers: Servers
    who: Who
    answer: Answer = ""
    prometheus_conn_id: str = ""

    def plan(self) -> RolloutPlan:
        """Return it as the engine takes it."""
        return RolloutPlan(
            resource=LocalResource(self.serving, self.servers),
            rollout=self.rollout,
            ready_timeout=timedelta(seconds=self.servers.ready_timeout),
            who=self.who,
            model=self.servers.model.name,
            version=self.servers.model.version,
            answer=self.answer,
        )


class RolloutEnd(BaseModel):
    """How the wait for a rollout ended.

    :param kind: ``outcome``: it has ended; ``lost``: another try goes on; ``mistake``: none mends it.
    :param message: why there is no outcome.
    :param outcome: how it ended.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["outcome", "lost", "mistake"]
    message: str = ""
    outcome: Outcome | None = None

    def result(self) -> Outcome:
        """Return the outcome.

        :raises ProcessFailed: if another try may help.
        :raises ConfigurationError: if none does.
        """
        if self.outcome is None:
            raise (ConfigurationError if self.kind == "mistake" else ProcessFailed)(self.message)
        return self.outcome


async def roll_out(work: LocalRollout, log: Any) -> Outcome:
    """Roll a model out on this machine, and tell how it ended; may be begun again at any moment.

    :param log: the task's log.
    :raises ConfigurationError: if it cannot be, or must not.
    :raises ProcessFailed: if it gets no further; a retry goes on.
    """

    local = LocalServing(work.state_dir, work.address)
    around = await look_around(local, work.serving, work.rollout, work.who.airflow, work.prometheus_conn_id, log)
    return await Rolling(work.plan(), around).run()


async def look_around(
    local: LocalServing, serving: Serving, rollout: Rollout, airflow: str, prometheus_conn_id: str, log: Any
) -> LocalAround:
    """Return what a rollout on this machine looks at.

    :param airflow: address of this Airflow.
    """

    async def ask(query: str) -> PrometheusAnswer:
        async with await PrometheusHook(prometheus_conn_id or None).async_client() as client:
            return await client.query(query)

    async def running(who: Who) -> bool:
        return who.airflow != airflow or await goes_on(who.dag_id, who.run_id)

    around = LocalAround(local, serving, rollout, ask, running, lambda account: log.info("%s", account))
    await around.refresh()
    return around


class LocalRolloutTrigger(BaseTrigger):
    """Rolls a model out on this machine and fires once, when that has ended.

    A triggerer that dies leaves the rollout where it is, and the next one goes on from there.

    :param work: JSON of :class:`LocalRollout`.
    """

    def __init__(self, work: dict[str, Any]) -> None:
        super().__init__()
        self.work = work

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments that make an equal one."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"work": self.work}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire how it ended."""
        yield TriggerEvent((await self._end()).model_dump(mode="json"))

    async def _end(self) -> RolloutEnd:
        try:
            work = LocalRollout.model_validate(self.work, strict=False)
            return RolloutEnd(kind="outcome", outcome=await roll_out(work, self.log))
        except ConfigurationError as error:
            return RolloutEnd(kind="mistake", message=str(error))
        except MlplatformError as error:
            return RolloutEnd(kind="lost", message=str(error))


def read_end(event: Any) -> RolloutEnd:
    """Read the trigger's event.

    :raises ConfigurationError: if it is not understood; that is never a success.
    """
    try:
        return RolloutEnd.model_validate(event)
    except ValidationError as error:
        raise ConfigurationError(
            f"the event {event!r:.200} is not one of LocalRolloutTrigger ({error.error_count()} problems); let workers "
            "and triggerer run the same version of airflow-mlplatform, then clear the task"
        ) from error
