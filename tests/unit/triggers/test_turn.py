"""Runs of a DAG that take turns."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.triggers.base import TaskSkippedEvent, TaskSuccessEvent

from airflow_mlplatform.training.provenance import Provenance
from airflow_mlplatform.triggers import turn
from airflow_mlplatform.triggers.turn import TurnTrigger, next_one

ORIGIN = Provenance("d", "b", "turn", -1, 1, "http://a/dags/d").to_json()


async def event(trigger: TurnTrigger) -> Any:
    (fired,) = [event async for event in trigger.run()]
    return fired


@pytest.mark.parametrize("no", ["False", "", "no", "None"])
async def test_what_a_run_is_not_for_is_skipped(no: str) -> None:
    assert isinstance(await event(TurnTrigger(no, ORIGIN)), TaskSkippedEvent)


async def test_a_run_alone_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RuntimeTaskInstance, "get_dr_count", staticmethod(lambda **_: 1))
    assert isinstance(await event(TurnTrigger("True", ORIGIN)), TaskSuccessEvent)


async def test_a_run_waits_until_the_one_before_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def count(dag_id: str, states: list[str], run_ids: list[str] | None = None) -> int:
        assert (dag_id, "running" in states) == ("d", True)
        if run_ids is None:
            return 2
        assert run_ids == ["c"]
        asked.append(1)
        return 1 if len(asked) < 3 else 0

    monkeypatch.setattr(turn, "LOOKS", 0.0)
    monkeypatch.setattr(RuntimeTaskInstance, "get_dr_count", staticmethod(count))
    states = {"b": {"turn": "deferred"}, "c": {"turn": "success"}, "d": {"turn": "skipped"}}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: states))
    assert isinstance(await event(TurnTrigger("True", ORIGIN)), TaskSuccessEvent)
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("run", "state", "first"),
    [("a", "deferred", True), ("c", "deferred", False), ("c", "success", True), ("a", "skipped", False),
     ("b", "deferred", False)],
)  # fmt: skip
def test_who_comes_first(run: str, state: str, first: bool) -> None:
    assert next_one(run, state, "b") is first
