"""One step back, other numbers of servers, and none, on this machine: real processes, a front with fake models."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from airflow.triggers.base import TaskSkippedEvent, TaskSuccessEvent

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.serving.state import Outcome
from airflow_mlplatform.settings import settings
from airflow_mlplatform.training.provenance import Provenance
from airflow_mlplatform.triggers import local_actions, seldon_actions, seldon_task
from airflow_mlplatform.triggers.local_actions import LocalRollbackTrigger, LocalScaleTrigger, LocalTeardownTrigger
from airflow_mlplatform.triggers.local_rollout import roll_out
from airflow_mlplatform.triggers.task import TaskEnding
from tests.services.runtime.conftest import PATIENCE, ask, deploy, eventually, servers
from tests.services.runtime.test_local_rollout import log, work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_mlplatform.runtime.serving import LocalServing

SERVING = {"name": "wine"}
AB = {"strategy": "ab", "weight": 50, "interval": "1s", "no_traffic": "pass"}


@pytest.fixture
def xcom(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What was left in XCom, by task and key."""
    kept: dict[str, Any] = {}

    async def leave(owner: Provenance, value: object, key: str = "return_value") -> None:
        kept[f"{owner.task_id}.{key}"] = value

    monkeypatch.setattr(seldon_task, "leave", leave)
    monkeypatch.setattr(seldon_actions, "leave", leave)
    return kept


@pytest.fixture
def front(serving: LocalServing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServing]:
    """Version 1 serves, and the settings say where."""
    monkeypatch.setenv("AIRFLOW__MLPLATFORM__STATE_DIR", str(serving.folder.path.parent))
    monkeypatch.setenv("AIRFLOW__MLPLATFORM__SERVING_ADDRESS", serving.address)
    # The front that the tests run has fake servers.
    monkeypatch.setattr(local_actions, "LocalServing", lambda *_: serving)
    settings.cache_clear()
    serving.ensure_front()
    assert deploy(serving, tmp_path, "1").result == "ready"
    yield serving
    settings.cache_clear()


def origin(task: str, run: str = "run-9") -> dict[str, Any]:
    return Provenance("wine", run, task, -1, 1, "http://airflow.test/dags/wine/runs/9").to_json()


async def end(trigger: Any) -> Any:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        (fired,) = [event async for event in trigger.run()]
    if not isinstance(fired, (TaskSuccessEvent, TaskSkippedEvent)):
        TaskEnding.decode(fired.payload).outcome()
    return fired


def version(serving: LocalServing) -> str:
    return str(ask(serving, "invocations").headers.get("x-mlplatform-model-version"))


async def test_other_numbers_of_servers_and_none(front: LocalServing, xcom: dict[str, Any]) -> None:
    trigger = LocalScaleTrigger(SERVING, "2", {}, origin("scale"))
    path, arguments = trigger.serialize()
    assert path == "airflow_mlplatform.triggers.local_actions.LocalScaleTrigger"
    await end(LocalScaleTrigger(**arguments))
    eventually(lambda: len(servers(front)) == 2, "there are two servers")
    assert (xcom["scale.return_value"]["result"], xcom["scale.return_value"]["endpoint_url"]) == (
        "done", front.url("wine"),
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="one server at least; action: teardown removes it"):
        await end(LocalScaleTrigger(SERVING, 0, {}, origin("scale", "run-10")))
    await end(LocalTeardownTrigger(SERVING, {}, origin("teardown")))
    eventually(lambda: ask(front).status_code == 404, "nobody answers there")
    eventually(lambda: not servers(front), "no server is left")
    await end(LocalTeardownTrigger(SERVING, {}, origin("teardown")))
    assert xcom["teardown.return_value"]["result"] == "unchanged"
    with pytest.raises(ConfigurationError, match="is not there; deploy a model first"):
        await end(LocalScaleTrigger(SERVING, 2, {}, origin("scale", "run-11")))


async def test_a_test_that_stays_ends_with_what_served_before(
    front: LocalServing, xcom: dict[str, Any], tmp_path: Path
) -> None:
    assert (await rolled(front, tmp_path, AB)).result == "staying"
    before = front.wish("wine")
    assert before is not None
    assert before.candidate is not None
    await end(LocalRollbackTrigger(SERVING, {"name": "wine"}, {}, origin("rollback")))
    assert xcom["rollback.return_value"]["result"] == "done"
    after = front.wish("wine")
    assert after is not None
    assert (after.candidate, version(front)) == (None, "1")
    eventually(lambda: len(servers(front)) == 1, "one server is left")


async def test_a_rollout_that_is_under_way_is_told_who_took_over(
    front: LocalServing, xcom: dict[str, Any], tmp_path: Path
) -> None:
    slow = {"strategy": "canary", "steps": [50, 100], "interval": "10m"}
    rollout = asyncio.create_task(rolled(front, tmp_path, slow))
    while not ((wish := front.wish("wine")) and wish.candidate):  # noqa: ASYNC110 - files tell nobody
        await asyncio.sleep(0.1)
    await end(LocalRollbackTrigger(SERVING, {"name": "wine"}, {}, origin("rollback")))
    outcome = await rollout
    assert (outcome.result, version(front)) == ("stopped", "1")
    assert "took over (rollback)" in outcome.why
    assert xcom["rollback.return_value"]["result"] == "done"


async def test_a_first_model_that_failed_is_remembered(serving: LocalServing, tmp_path: Path) -> None:
    bad = work(serving, tmp_path, {"strategy": "canary", "steps": [100]}, exit=1)
    bad = bad.model_copy(update={"servers": bad.servers.model_copy(update={"ready_timeout": 3.0})})
    serving.ensure_front()
    first = await roll_out(bad, log)
    assert (first.result, serving.wish("wine")) == ("aborted", None)
    assert await roll_out(bad, log) == first
    again = bad.model_copy(update={"who": bad.who.model_copy(update={"attempt": 2})})
    assert (await roll_out(again, log)).at > first.at


async def rolled(serving: LocalServing, folder: Path, rollout: dict[str, Any]) -> Outcome:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        return await roll_out(work(serving, folder, rollout), log)
