"""One run of a DAG after the other, for a part of its tasks: the others may run beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TaskSkippedEvent, TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_mlplatform.triggers.dag_runs import goes_on
from airflow_mlplatform.triggers.starting import NeedsWorker, StartingTrigger

if TYPE_CHECKING:
    from airflow_mlplatform.training.provenance import Provenance

__all__ = ["NO", "TurnTrigger", "next_one"]

NO = frozenset({"", "false", "none", "no", "0"})
"""What a template renders to that means no."""
LOOKS = 10.0
WAITS = frozenset({"deferred", "running", "queued", "scheduled"})


class TurnTrigger(StartingTrigger):
    """Ends its task when no other run of the DAG is past it, or at once as skipped if it is not meant. No worker takes
    part: an ordinary run waits for nobody and costs one question to Airflow.

    :param only_if: if this renders to nothing, ``False`` or ``no``, the task is skipped. Templated.
    """

    def __init__(self, only_if: str = "yes", origin: dict[str, Any] | None = None) -> None:
        super().__init__(origin)
        self.only_if = only_if

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        return f"{type(self).__module__}.{type(self).__name__}", {"only_if": self.only_if, "origin": self.origin}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event: the task's end."""
        try:
            origin = await self.prepare()
        except NeedsWorker as error:
            yield TriggerEvent({"over": str(error)})
            return
        if str(self.only_if).strip().lower() in NO:
            yield TaskSkippedEvent()
            return
        told = False
        while who := await self._before(origin):
            if not told:
                self.log.info("Waiting: DAG run %s comes first", who)
                told = True
            await asyncio.sleep(LOOKS)
        yield TaskSuccessEvent()

    async def _before(self, origin: Provenance) -> str:
        """Return the DAG run that comes first; empty if none does."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        count = sync_to_async(RuntimeTaskInstance.get_dr_count)
        if await count(dag_id=origin.dag_id, states=["running"]) <= 1:
            return ""
        states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
            dag_id=origin.dag_id, task_ids=[origin.task_id]
        )
        others = {run: str(tasks.get(origin.task_id)) for run, tasks in states.items()}
        for run in sorted(others):
            if next_one(run, others[run], origin.dag_run_id) and await goes_on(origin.dag_id, run):
                return run
        return ""


def next_one(run: str, state: str, mine: str) -> bool:
    """Whether another run comes before mine: it has had its turn, or waits for it and comes first by its name.

    :param state: of the task that waits, in the other run.
    """
    return run != mine and (state == "success" or (state in WAITS and run < mine))
