"""Tasks that are in the triggerer from their first line to their last. No worker takes part."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed, ServiceRefused
from airflow_mlplatform.runtime.pod_manifest import Identity
from airflow_mlplatform.triggers.starting import NeedsWorker, StartingTrigger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from airflow_mlplatform.training.provenance import Provenance

__all__ = ["TaskEnding", "TaskTrigger", "identify", "leave"]

GRACE = 10.0
"""Seconds before Airflow's own time-out, in which the work is stopped."""


class TaskEnding(BaseModel):
    """What a worker has to do: end the task as ``done``, ``failed`` or ``mistake`` (no retry), or take it ``over``.

    :param message: what to tell people.
    :param result: what a finished task leaves in XCom.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ending: Literal["done", "failed", "mistake", "over"]
    message: str = ""
    result: dict[str, JsonValue] | None = None

    @classmethod
    def decode(cls, payload: object) -> TaskEnding:
        """Read an event's payload.

        :raises ConfigurationError: if it is not understood; that is a failure, never a success.
        """
        try:
            return cls.model_validate(payload)
        except ValidationError as error:
            raise ConfigurationError(
                f"the event {payload!r:.200} is none of a task in the triggerer ({error.error_count()} problems); "
                "let workers and triggerer run the same version of airflow-mlplatform, then clear the task"
            ) from None

    def outcome(self) -> dict[str, JsonValue]:
        """Return the result of a finished task.

        :raises NeedsWorker: if a worker is to take the task over.
        :raises ConfigurationError: for a mistake that no retry mends.
        :raises ProcessFailed: if it failed; another try may help.
        """
        if self.ending == "over":
            raise NeedsWorker(self.message)
        if self.ending == "mistake":
            raise ConfigurationError(self.message)
        if self.ending == "failed" or self.result is None:
            raise ProcessFailed(self.message)
        return self.result


class TaskTrigger(StartingTrigger):
    """Base of triggers that do the work of a task (make its pod and follow it, say), leave the result and end the task.

    Where it goes wrong, a worker ends the task, since Airflow 3.3.0 and 3.3.2 disagree on whether the failure of a
    trigger is retried. What a dead triggerer, worker or pod left behind is found and continued.

    :cvar arguments: names of the arguments, which are attributes too.
    :param plan: what is fixed while the DAG is built, as JSON. Where ``by_worker`` is set, a worker ends even a task
        that went well, for what a trigger cannot do (asset events).
    :param origin: see :class:`~airflow_mlplatform.triggers.starting.StartingTrigger`.
    """

    arguments: ClassVar[tuple[str, ...]]

    def __init__(self, plan: dict[str, Any], origin: dict[str, Any] | None = None) -> None:
        super().__init__(origin)
        self.plan = plan
        self.timeout_after: datetime | None = None

    @abstractmethod
    async def work(self, origin: Provenance) -> Mapping[str, Any]:
        """Do all that the task is for and return the result, which is in XCom too.

        :raises ProcessFailed: if it failed or was lost; another try may help.
        :raises ConfigurationError: for a mistake that no retry mends.
        :raises ServiceRefused: if a service will not.
        :raises NeedsWorker: if only a worker can do it.
        """

    @abstractmethod
    async def stop(self, reason: str) -> None:
        """Remove what ``work`` has made so far, unless a later try has it already."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        path = f"{type(self).__module__}.{type(self).__name__}"
        return path, {name: getattr(self, name) for name in self.arguments}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event: the task's end, or what a worker has to do."""
        event = await self._ended()
        if event.ending == "done" and not self.plan.get("by_worker"):
            yield TaskSuccessEvent()
        else:
            yield TriggerEvent(event.model_dump(mode="json"))

    async def on_kill(self) -> None:
        """Stop, for a person has ended the task."""
        await self.stop("the Airflow task was ended by hand")

    async def _ended(self) -> TaskEnding:
        try:
            async with asyncio.timeout(self._seconds_left()):
                result = await self.work(await self.prepare())
        except TimeoutError:
            why = "the task ran longer than its execution_timeout"
            await self.stop(why)
            return TaskEnding(ending="failed", message=f"{why}; raise timeout, or give it less to do")
        except NeedsWorker as error:
            return TaskEnding(ending="over", message=str(error))
        except ProcessFailed as error:
            return TaskEnding(ending="failed", message=str(error))
        except (ConfigurationError, ServiceRefused) as error:
            return TaskEnding(ending="mistake", message=str(error))
        return TaskEnding(ending="done", result=dict(result))

    def _seconds_left(self) -> float | None:
        if self.timeout_after is None:
            return None
        aware = self.timeout_after if self.timeout_after.tzinfo else self.timeout_after.replace(tzinfo=UTC)
        return max(1.0, (aware - datetime.now(UTC)).total_seconds() - GRACE)


def identify(origin: Provenance, work: str) -> Identity:
    """Return whose pod it is that does the work of a task."""
    return Identity(
        dag_id=origin.dag_id,
        run_id=origin.dag_run_id,
        task_id=origin.task_id,
        map_index=origin.map_index,
        try_number=origin.try_number,
        key=origin.key,
        work=work,
    )


async def leave(origin: Provenance, value: object, key: str = "return_value") -> None:
    """Put a value into the task's XCom, as a worker would."""
    await XCom.aset(
        key,
        value,
        dag_id=origin.dag_id,
        task_id=origin.task_id,
        run_id=origin.dag_run_id,
        map_index=origin.map_index,
    )
