"""Versions of an application: applied once, waited for, taken back; whatever is away or dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from airflow_mlplatform.clients.deployments import Deployments
from airflow_mlplatform.clients.kubernetes import Pods
from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed, ServiceRefused
from airflow_mlplatform.runtime.app_deployment import AppDeployment
from airflow_mlplatform.runtime.app_versions import GOOD, SINCE
from airflow_mlplatform.runtime.pod_manifest import PodSetup
from airflow_mlplatform.specs.common import Defaults
from airflow_mlplatform.specs.streaming import App
from airflow_mlplatform.triggers import rollout as module
from airflow_mlplatform.triggers.rollout import Health, Rollout
from tests.unit.triggers.fake_deployments import FakeDeployments, version_of

RUNNING_UNREADY = {"name": "app", "ready": False, "restartCount": 0, "state": {"running": {}}}


@pytest_asyncio.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeDeployments]:
    monkeypatch.setattr(module, "LOOKS", 0.01)
    async with FakeDeployments() as cluster:
        yield cluster


def manifest(version: str = "1", replicas: int = 2) -> dict[str, Any]:
    app = App.model_validate({"image": "example:1", "replicas": replicas, "env": {"VERSION": version}})
    return AppDeployment("shop", app, Defaults()).manifest(PodSetup("ml", "platform:1"))


def pod(status: dict[str, Any], **more: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "app", "image": "example:1"}]}
    return {
        "metadata": {"name": "shop-1", "namespace": "ml"},
        "spec": spec,
        "status": {**more, "containerStatuses": [status]},
    }


def crashing(times: int) -> dict[str, Any]:
    ended = {"terminated": {"exitCode": 3, "reason": "Error", "message": "boom"}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    status = {"name": "app", "ready": False, "restartCount": times, "state": waiting, "lastState": ended}
    return pod(status, phase="Running")


async def nothing_more() -> None:
    return None


async def roll_out(
    cluster: FakeDeployments,
    wished: dict[str, Any],
    attempt: str = "a/1",
    seconds: float = 60,
    health: Health = nothing_more,
) -> str:
    assert cluster.api is not None
    rollout = Rollout(Deployments(cluster.api, "ml"), Pods(cluster.api, "ml"), "shop", logging.getLogger("task"))
    return await rollout.run(wished, seconds, attempt, health)


def notes(cluster: FakeDeployments) -> dict[str, str]:
    return dict(cluster.deployments["shop"]["metadata"]["annotations"])


async def test_a_version_is_applied_once_and_remembered_as_good(cluster: FakeDeployments) -> None:
    assert await roll_out(cluster, manifest()) == "created"
    assert json.loads(notes(cluster)[GOOD]) == manifest()["spec"]
    applied = len(cluster.applied)
    assert await roll_out(cluster, manifest(), "b/1") == "unchanged"
    assert len(cluster.applied) == applied
    assert await roll_out(cluster, manifest("2"), "c/1") == "updated"
    assert json.loads(notes(cluster)[GOOD]) == manifest("2")["spec"]


async def test_what_somebody_changed_is_applied_again(cluster: FakeDeployments) -> None:
    await roll_out(cluster, manifest())
    cluster.deployments["shop"]["spec"]["replicas"] = 7
    assert await roll_out(cluster, manifest(), "b/1") == "updated"
    assert cluster.deployments["shop"]["spec"]["replicas"] == 2


async def test_a_bad_version_is_replaced_by_the_former_one(cluster: FakeDeployments) -> None:
    await roll_out(cluster, manifest())
    former, bad = cluster.deployments["shop"]["spec"], manifest("2")
    cluster.bad[version_of(bad)] = crashing(3)
    with pytest.raises(ProcessFailed, match="exit code 3: boom(.|\n)*The former version is back"):
        await roll_out(cluster, bad, "b/1")
    assert cluster.deployments["shop"]["spec"] == former
    applied = len(cluster.applied)
    with pytest.raises(ProcessFailed, match="exit code 3: boom"):
        await roll_out(cluster, bad, "b/1")
    assert len(cluster.applied) == applied, "the same try, after a crash of the triggerer, does it once"
    del cluster.bad[version_of(bad)]
    assert await roll_out(cluster, bad, "b/2") == "updated"


async def test_a_bad_first_version_loses_its_pods_once(cluster: FakeDeployments) -> None:
    cluster.bad[version_of(manifest())] = crashing(3)
    with pytest.raises(ProcessFailed, match="exit code 3: boom(.|\n)*It was the first version; its pods are gone"):
        await roll_out(cluster, manifest())
    assert cluster.deployments["shop"]["spec"]["replicas"] == 0
    applied = len(cluster.applied)
    with pytest.raises(ProcessFailed, match="exit code 3: boom"):
        await roll_out(cluster, manifest())
    assert len(cluster.applied) == applied, "the same try, after a crash of the triggerer, does it once"
    cluster.bad.clear()
    assert await roll_out(cluster, manifest(), "a/2") == "created"
    assert cluster.deployments["shop"]["spec"]["replicas"] == 2


async def test_what_somebody_removes_while_it_is_taken_back(cluster: FakeDeployments) -> None:
    cluster.bad[version_of(manifest())] = crashing(3)

    def remove(deployment: Any) -> None:
        if deployment["spec"]["replicas"] == 0:
            cluster.deployments.clear()

    cluster.on_apply = remove
    with pytest.raises(ProcessFailed, match="boom(.|\n)*Somebody has removed it"):
        await roll_out(cluster, manifest())


async def test_a_few_crashes_are_borne(cluster: FakeDeployments, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    cluster.bad[version_of(manifest())] = crashing(1)

    def mend(_: Any) -> None:
        cluster.requests.clear()

    cluster.on_apply = mend

    async def mended() -> None:
        await cluster.until(lambda fake: len(fake.requests) > 8)
        cluster.bad.clear()
        cluster._control(cluster.deployments["shop"])

    done, _ = await asyncio.gather(roll_out(cluster, manifest()), mended())
    assert done == "created"
    told = [record.getMessage() for record in caplog.records if "ended with exit code 3" in record.getMessage()]
    assert len(told) == 1, "the same is told once"


async def test_an_interrupted_rollout_goes_on_and_keeps_its_time(cluster: FakeDeployments) -> None:
    await roll_out(cluster, manifest())
    bad = manifest("2")
    cluster.bad[version_of(bad)] = pod(RUNNING_UNREADY, phase="Running")
    cluster.lines = ["loading", "still loading"]
    task = asyncio.create_task(roll_out(cluster, bad, "b/1"))
    await cluster.until(
        lambda fake: "shop" in fake.deployments and version_of(fake.deployments["shop"]) == version_of(bad)
    )
    task.cancel()
    applied, since = len(cluster.applied), notes(cluster)[SINCE]
    long_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="seconds")
    cluster.deployments["shop"]["metadata"]["annotations"][SINCE] = long_ago
    assert since != long_ago
    with pytest.raises(ProcessFailed, match="not well within 60 s: 1 of 2 pods(.|\n)*not ready(.|\n)*still loading"):
        await roll_out(cluster, bad, "b/1")
    assert version_of(cluster.applied[-1]) == version_of(manifest())
    assert len(cluster.applied) == applied + 1


async def test_mistakes_are_told_as_such(cluster: FakeDeployments) -> None:
    await roll_out(cluster, manifest())
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image: "x": not found'}}
    status = {"name": "app", "ready": False, "restartCount": 0, "state": waiting}
    cluster.bad[version_of(manifest("2"))] = pod(status, phase="Pending")
    with pytest.raises(ConfigurationError, match="cannot be pulled"):
        await roll_out(cluster, manifest("2"), "b/1")
    cluster.refusal = (422, {"message": "spec.template.spec.containers[0].image: Required value"})
    with pytest.raises(ConfigurationError, match="Required value; correct the app or defaults"):
        await roll_out(cluster, manifest("3"), "c/1")
    cluster.refusal = (403, {"message": "deployments is forbidden"})
    with pytest.raises(ServiceRefused, match=r"needs the verb patch on deployments\.apps"):
        await roll_out(cluster, manifest("3"), "c/1")
    cluster.refusal = (500, {"message": "failed to create typed patch object (x): duplicate entries"})
    with pytest.raises(ConfigurationError, match="duplicate entries"):
        await roll_out(cluster, manifest("3"), "c/1")


async def test_events_tell_what_a_pods_status_does_not(
    cluster: FakeDeployments, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.bad[version_of(manifest())] = {
        "metadata": {"name": "shop-1", "namespace": "ml"},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": "Pending"},
    }
    cluster.warnings = ["older", "Failed to create pod sandbox: no memory"]
    with pytest.raises(ProcessFailed, match="has not started: Failed to create pod sandbox: no memory"):
        await roll_out(cluster, manifest(), seconds=-1)


async def test_somebody_elses_deployment_is_left_alone(cluster: FakeDeployments) -> None:
    cluster.deployments["shop"] = {"metadata": {"name": "shop", "uid": "1", "labels": {}}, "spec": {}}
    with pytest.raises(ConfigurationError, match="was not made by airflow-mlplatform"):
        await roll_out(cluster, manifest())
    assert cluster.applied == []


async def test_health_is_asked_once_all_pods_are_there(cluster: FakeDeployments) -> None:
    answers = iter(["the group has no members", "the group is behind", None])

    async def health() -> str | None:
        assert cluster.deployments["shop"]["status"]["availableReplicas"] == 2
        return next(answers)

    assert await roll_out(cluster, manifest(), health=health) == "created"


async def test_a_version_that_was_well_is_not_taken_back(cluster: FakeDeployments) -> None:
    await roll_out(cluster, manifest())

    async def ill() -> str:
        return "the group has no members"

    with pytest.raises(ProcessFailed, match="as it was when it was well, is not now: .* no members"):
        await roll_out(cluster, manifest(), "b/1", seconds=-1, health=ill)
    assert version_of(cluster.deployments["shop"]) == version_of(manifest())
