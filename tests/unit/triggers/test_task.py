"""What all tasks that are one pod have in common: how they end, and who ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from airflow_mlplatform.exceptions import ConfigurationError, NotFound, ProcessFailed
from airflow_mlplatform.training.provenance import Provenance
from airflow_mlplatform.triggers.starting import NeedsWorker
from airflow_mlplatform.triggers.task import TaskEnding, TaskTrigger, identify

ORIGIN = Provenance("shop", "run-1", "train", 3, 2, "http://airflow.test")
RESULT = {"rows": 3}


class Trigger(TaskTrigger):
    """Does what the test says."""

    arguments = ("plan", "origin")

    def __init__(self, do: Callable[[], Awaitable[dict[str, Any]]], *, by_worker: bool = False) -> None:
        super().__init__({"by_worker": by_worker}, ORIGIN.to_json())
        self.do = do
        self.stopped: list[str] = []

    async def work(self, origin: Provenance) -> dict[str, Any]:
        assert origin == ORIGIN
        return await self.do()

    async def stop(self, reason: str) -> None:
        self.stopped.append(reason)


async def succeed() -> dict[str, Any]:
    return RESULT


async def never_end() -> dict[str, Any]:
    return await asyncio.Future()


def fail(error: Exception) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def do() -> dict[str, Any]:
        raise error

    return do


async def event(trigger: Trigger) -> TriggerEvent:
    (fired,) = [event async for event in trigger.run()]
    return fired


async def test_what_went_well_ends_without_a_worker() -> None:
    assert isinstance(await event(Trigger(succeed)), TaskSuccessEvent)


async def test_a_worker_ends_what_a_trigger_cannot() -> None:
    fired = await event(Trigger(succeed, by_worker=True))
    assert not isinstance(fired, TaskSuccessEvent)
    assert TaskEnding.decode(fired.payload).outcome() == RESULT


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ProcessFailed("node lost"), ProcessFailed),
        (ConfigurationError("wrong image"), ConfigurationError),
        (NotFound("no such experiment"), ConfigurationError),
        (NeedsWorker("a template"), NeedsWorker),
    ],
)
async def test_a_worker_ends_what_went_wrong(error: Exception, kind: type[Exception]) -> None:
    trigger = Trigger(fail(error))
    fired = await event(trigger)
    with pytest.raises(kind, match=str(error)):
        TaskEnding.decode(fired.payload).outcome()
    assert trigger.stopped == []


@pytest.mark.parametrize("zone", [UTC, None])
async def test_a_task_that_takes_too_long_is_stopped_before_airflow_does(zone: Any) -> None:
    trigger = Trigger(never_end)
    trigger.timeout_after = datetime.now(UTC).replace(tzinfo=zone)
    fired = await event(trigger)
    assert trigger.stopped == ["the task ran longer than its execution_timeout"]
    with pytest.raises(ProcessFailed, match=r"longer than its execution_timeout; raise timeout"):
        TaskEnding.decode(fired.payload).outcome()


async def test_who_ends_the_task_stops_its_work() -> None:
    trigger = Trigger(succeed)
    await trigger.on_kill()
    assert trigger.stopped == ["the Airflow task was ended by hand"]


@pytest.mark.parametrize(
    "payload", [None, "done", {}, {"status": "success"}, {"ending": "done", "rows": 1}, {"ending": "fine"}]
)
def test_an_event_that_is_not_understood_is_a_failure(payload: object) -> None:
    with pytest.raises(ConfigurationError, match="run the same version of airflow-mlplatform"):
        TaskEnding.decode(payload)


def test_done_without_a_result_is_a_failure() -> None:
    with pytest.raises(ProcessFailed):
        TaskEnding(ending="done").outcome()


def test_a_trigger_is_made_anew_from_what_it_serializes() -> None:
    path, arguments = Trigger(succeed).serialize()
    assert path == f"{__name__}.Trigger"
    assert arguments == {"plan": {"by_worker": False}, "origin": ORIGIN.to_json()}


def test_the_pod_is_that_of_the_try() -> None:
    mine = identify(ORIGIN, "w")
    assert (mine.dag_id, mine.run_id, mine.task_id, mine.map_index) == ("shop", "run-1", "train", 3)
    assert (mine.try_number, mine.key, mine.work) == (2, ORIGIN.key, "w")
