"""The pod of a container transform and its result, whoever dies or comes late."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from airflow_mlplatform.clients.kubernetes import Pods
from airflow_mlplatform.hooks.kubernetes import pod_setup
from airflow_mlplatform.settings import settings
from airflow_mlplatform.training.provenance import Provenance
from airflow_mlplatform.triggers import container_transform as module
from airflow_mlplatform.triggers import pod
from airflow_mlplatform.triggers.container_transform import ContainerTransformTrigger
from airflow_mlplatform.triggers.task import TaskEnding
from tests.unit.triggers.fake_cluster import FakeCluster

FACTS = {"uri": "s3://staging/x", "rows": 1, "bytes": 2, "schema_hash": "h"}
NAME = f"shop-clean-{Provenance('shop', 'r', 'clean', -1, 1, '').key[:12]}"


@pytest.fixture
def left() -> list[Any]:
    """What was left in XCom, and the pods that were there then."""
    return []


@pytest_asyncio.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch, left: list[Any]) -> AsyncIterator[FakeCluster]:
    monkeypatch.setenv("AIRFLOW__MLPLATFORM__PLATFORM_IMAGE", "platform:1")
    monkeypatch.setattr(pod, "FIRST_LOOKS", 0.02)
    settings.cache_clear()
    pod_setup.cache_clear()
    async with FakeCluster() as cluster:

        @asynccontextmanager
        async def open_pods() -> AsyncIterator[Pods]:
            assert cluster.api is not None
            yield Pods(cluster.api, "ml")

        async def leave(origin: Provenance, value: object) -> None:
            left.append((origin.task_id, value, list(cluster.pods)))

        monkeypatch.setattr(module, "open_pods", open_pods)
        monkeypatch.setattr(module, "leave", leave)
        yield cluster
    settings.cache_clear()
    pod_setup.cache_clear()


def trigger(try_number: int = 1) -> ContainerTransformTrigger:
    origin = Provenance("shop", "r", "clean", -1, try_number, "http://airflow.test")
    return ContainerTransformTrigger(
        {"image": "example/clean:1"}, {"input": "extract"}, attempt=f"try-{try_number}", origin=origin.to_json()
    )


async def event(one: ContainerTransformTrigger) -> TriggerEvent:
    (fired,) = [event async for event in one.run()]
    return fired


def ended(code: int, message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message, "reason": "Error" if code else "Completed"}}


async def until_made(cluster: FakeCluster, count: int = 1) -> None:
    await cluster.until(lambda fake: len(fake.made) == count and NAME in fake.pods)


async def test_the_result_is_left_before_its_pod_goes(cluster: FakeCluster, left: list[Any]) -> None:
    running = asyncio.create_task(event(trigger()))
    await until_made(cluster)
    await cluster.move(NAME, "Succeeded", output=ended(0, json.dumps(FACTS)))
    assert isinstance(await running, TaskSuccessEvent)
    assert left == [("clean", FACTS, [NAME])]
    assert cluster.pods == {}


async def test_the_pod_of_a_failure_goes_too(cluster: FakeCluster, left: list[Any]) -> None:
    running = asyncio.create_task(event(trigger()))
    await until_made(cluster)
    await cluster.move(NAME, "Failed", transform=ended(3, "the model is missing"))
    told = TaskEnding.decode((await running).payload)
    assert told.ending == "failed"
    assert "the model is missing" in told.message
    assert (left, cluster.pods) == ([], {})


async def test_a_pod_without_facts_is_a_failure(cluster: FakeCluster, left: list[Any]) -> None:
    running = asyncio.create_task(event(trigger()))
    await until_made(cluster)
    await cluster.move(NAME, "Succeeded", output=ended(0, "hello"))
    told = TaskEnding.decode((await running).payload)
    assert (told.ending, left) == ("failed", [])
    assert "left 'hello' instead of the facts" in told.message


async def test_who_hears_late_of_the_end_leaves_the_next_try_alone(cluster: FakeCluster) -> None:
    first, second = trigger(1), trigger(2)
    former = asyncio.create_task(event(first))
    await until_made(cluster)
    former.cancel()
    later = asyncio.create_task(event(second))
    await until_made(cluster, 2)
    await first.on_kill()
    assert NAME in cluster.pods
    await second.on_kill()
    assert cluster.pods == {}
    later.cancel()


async def test_killing_what_has_made_nothing(cluster: FakeCluster) -> None:
    await trigger().on_kill()
    assert cluster.requests == []
