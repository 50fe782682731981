"""Following one pod: made once, found again, whatever is away meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from airflow_mlplatform.clients.kubernetes import Pods
from airflow_mlplatform.runtime.pod_manifest import Identity, PodSetup, foreign_container, own_container, pod
from airflow_mlplatform.specs.common import Defaults, Resources
from airflow_mlplatform.triggers import pod as module
from airflow_mlplatform.triggers.pod import PodEnd, PodRun
from tests.unit.triggers.fake_cluster import FakeCluster

OURS = Identity("shop", "run-1", "train", -1, 1, "0123456789abcdef", "same work")
SETUP = PodSetup("ml", "platform:1")
MANIFEST = pod(
    SETUP,
    OURS,
    Defaults(),
    init=[own_container(SETUP, "project", "some.module")],
    main=foreign_container("train", "trainer:1", ["mlflow"], Resources()),
)
NAME = OURS.name
RUNNING: dict[str, Any] = {"running": {}}


def ended(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message, "reason": "Completed" if code == 0 else reason}}


@pytest_asyncio.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCluster]:
    monkeypatch.setattr(module, "FIRST_LOOKS", 0.02)
    monkeypatch.setattr(module, "LATER_LOOKS", 0.1)
    async with FakeCluster() as cluster:
        yield cluster


def pod_run(cluster: FakeCluster, identity: Identity = OURS, start_timeout: float = 60) -> PodRun:
    assert cluster.api is not None
    manifest = {**MANIFEST, "metadata": {**MANIFEST["metadata"], "annotations": identity.annotations}}
    return PodRun(Pods(cluster.api, "ml"), manifest, identity, logging.getLogger("task"), start_timeout)


async def to_its_end(cluster: FakeCluster, code: int = 0) -> None:
    """Let a pod that was made run as pods do."""
    await cluster.until(lambda fake: NAME in fake.pods)
    await cluster.move(NAME, "Pending", project=RUNNING)
    await cluster.say(NAME, "project", "cloning")
    await cluster.move(NAME, "Pending", project=ended(0, '{"code_version": "abc"}'))
    await cluster.move(NAME, "Running", train=RUNNING)
    await cluster.say(NAME, "train", "epoch 1", "epoch 2")
    await cluster.move(NAME, "Succeeded" if code == 0 else "Failed", train=ended(code))


async def test_it_makes_the_pod_and_tells_its_log(cluster: FakeCluster, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    end, _ = await asyncio.gather(pod_run(cluster).run(), to_its_end(cluster))
    assert end.failure is None
    assert end.messages["project"] == '{"code_version": "abc"}'
    lines = [record.getMessage() for record in caplog.records if record.name == "task"]
    assert lines == ["Made pod ml/" + NAME, "[project] cloning", "epoch 1", "epoch 2"]
    assert len(cluster.made) == 1


async def test_a_failure_tells_the_exit_code_and_the_last_lines(cluster: FakeCluster) -> None:
    end, _ = await asyncio.gather(pod_run(cluster).run(), to_its_end(cluster, code=3))
    assert end.failure is not None
    assert (end.failure.reason, end.failure.lasting) == ("ExitCode", False)
    assert "3" in end.failure.message
    assert "epoch 2" in end.failure.message
    assert end.started == {"project", "train"}


async def test_an_api_that_is_away_costs_patience_only(cluster: FakeCluster, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    following = asyncio.create_task(pod_run(cluster).run())
    await cluster.until(lambda fake: NAME in fake.pods)
    await cluster.move(NAME, "Running", project=ended(0), train=RUNNING)
    await cluster.say(NAME, "train", "epoch 1")
    await cluster.until(lambda fake: any("log" in request for request in fake.requests))
    cluster.away = True
    seen = len(cluster.requests)
    await cluster.say(NAME, "train", "epoch 2")
    await cluster.until(lambda fake: len(fake.requests) > seen + 2)
    cluster.away = False
    await cluster.say(NAME, "train", "epoch 3")
    await cluster.move(NAME, "Succeeded", train=ended(0))
    assert (await following).failure is None
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("epoch")]
    assert lines == ["epoch 1", "epoch 2", "epoch 3"]
    assert len(cluster.made) == 1


async def test_another_triggerer_finds_the_pod(cluster: FakeCluster) -> None:
    first = asyncio.create_task(pod_run(cluster).run())
    await cluster.until(lambda fake: NAME in fake.pods)
    first.cancel()
    end, _ = await asyncio.gather(pod_run(cluster).run(), to_its_end(cluster))
    assert end.failure is None
    assert len(cluster.made) == 1


async def test_a_pod_that_ended_unseen_is_not_repeated(cluster: FakeCluster) -> None:
    first = asyncio.create_task(pod_run(cluster).run())
    await cluster.until(lambda fake: NAME in fake.pods)
    first.cancel()
    await cluster.move(NAME, "Failed", project=ended(0), train=ended(1))
    end = await pod_run(cluster).run()
    assert end.failure is not None
    assert len(cluster.made) == 1


async def test_the_failed_pod_of_an_earlier_try_makes_room(cluster: FakeCluster) -> None:
    first = asyncio.create_task(pod_run(cluster).run())
    await cluster.until(lambda fake: NAME in fake.pods)
    await cluster.move(NAME, "Failed", project=ended(0), train=ended(1))
    await first
    second = asyncio.create_task(pod_run(cluster, replace(OURS, try_number=2)).run())
    await cluster.until(lambda fake: len(fake.made) == 2)
    await to_its_end(cluster)
    assert (await second).failure is None


async def test_a_running_pod_of_an_earlier_try_goes_on(cluster: FakeCluster) -> None:
    cluster.add({**MANIFEST, "metadata": dict(MANIFEST["metadata"])})
    end, _ = await asyncio.gather(pod_run(cluster, replace(OURS, try_number=2)).run(), to_its_end(cluster))
    assert end.failure is None
    assert cluster.made == []


async def test_a_pod_with_other_work_is_replaced(cluster: FakeCluster) -> None:
    cluster.add({**MANIFEST, "metadata": dict(MANIFEST["metadata"])})
    await cluster.move(NAME, "Running", train=RUNNING)
    other = asyncio.create_task(pod_run(cluster, replace(OURS, try_number=2, work="more memory")).run())
    await cluster.until(lambda fake: len(fake.made) == 1)
    await to_its_end(cluster)
    assert (await other).failure is None


async def test_a_pod_that_vanishes_is_lost(cluster: FakeCluster) -> None:
    following = asyncio.create_task(pod_run(cluster).run())
    await cluster.until(lambda fake: NAME in fake.pods)
    await cluster.move(NAME, "Running", project=ended(0), train=RUNNING)
    await cluster.until(lambda fake: any("log" in request for request in fake.requests))
    await cluster.vanish(NAME)
    end = await following
    assert end.failure is not None
    assert (end.failure.reason, end.failure.lasting) == ("Deleted", False)


async def test_an_inherited_pod_that_vanishes_is_made_anew(cluster: FakeCluster) -> None:
    cluster.add({**MANIFEST, "metadata": dict(MANIFEST["metadata"])})
    await cluster.move(NAME, "Running", project=ended(0), train=RUNNING)
    second = asyncio.create_task(pod_run(cluster, replace(OURS, try_number=2)).run())
    await cluster.until(lambda fake: any("log" in request for request in fake.requests))
    await cluster.vanish(NAME)
    await cluster.until(lambda fake: len(fake.made) == 1)
    await to_its_end(cluster)
    assert (await second).failure is None


async def test_what_the_api_refuses_is_told(cluster: FakeCluster) -> None:
    cluster.refusal = (
        403,
        {"reason": "Forbidden", "message": 'pods "x" is forbidden: violates PodSecurity "restricted"'},
    )
    end = await pod_run(cluster).run()
    assert end.failure is not None
    assert end.failure.lasting
    assert "PodSecurity" in end.failure.message


async def test_a_pod_that_never_starts_tells_why(cluster: FakeCluster, caplog: pytest.LogCaptureFixture) -> None:
    following = asyncio.create_task(pod_run(cluster, start_timeout=1).run())
    await cluster.until(lambda fake: NAME in fake.pods)
    cluster.pods[NAME]["status"]["conditions"] = [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient memory.",
        }
    ]
    end = await following
    assert end.failure is not None
    assert (end.failure.reason, end.failure.lasting) == ("Unschedulable", False)
    assert "memory" in end.failure.message
    assert any("memory" in record.getMessage() for record in caplog.records)  # at once, not only in the end


async def test_there_may_be_nothing_to_find(cluster: FakeCluster) -> None:
    assert await pod_run(cluster).find() is None
    assert cluster.made == []


async def test_removing_twice(cluster: FakeCluster) -> None:
    cluster.add({**MANIFEST, "metadata": dict(MANIFEST["metadata"])})
    run = pod_run(cluster)
    await run.remove()
    await run.remove()
    assert cluster.pods == {}


async def test_the_pod_of_a_later_try_is_left_alone(cluster: FakeCluster) -> None:
    later = {**MANIFEST["metadata"], "annotations": replace(OURS, try_number=2).annotations}
    cluster.add({**MANIFEST, "metadata": later})
    await pod_run(cluster).remove()
    assert NAME in cluster.pods


def test_an_end_without_anything() -> None:
    assert PodEnd(None).messages == {}
