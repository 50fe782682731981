"""How far a Deployment has come, from what the API says of it and its pods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_mlplatform.runtime.app_rollout import progress, started_again, unexplained
from airflow_mlplatform.runtime.app_versions import Memory, differs, is_ours

PODS = Path(__file__).parent / "pods"
COMPLETE = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}


def deployment(wanted: int = 2, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "shop", "generation": 2},
        "spec": {"replicas": wanted},
        "status": {**COMPLETE, **status},
    }


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PODS / f"{name}.json").read_text("utf-8"))
    return found.get("pod", found)


def pod(*statuses: dict[str, Any], phase: str = "Running", init: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/readyz"}}
    return {
        "metadata": {"name": "shop-1", "namespace": "ml"},
        "spec": {
            "initContainers": [{"name": status["name"]} for status in init],
            "containers": [
                {"name": status["name"], "readinessProbe": probe, "resources": {"limits": {"memory": "1Gi"}}}
                for status in statuses
            ],
        },
        "status": {"phase": phase, "containerStatuses": list(statuses), "initContainerStatuses": list(init)},
    }


def status(state: dict[str, Any], restarts: int = 0, last: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    found = {"name": "app", "ready": False, "restartCount": restarts, "state": state, **more}
    return found | ({"lastState": {"terminated": last}} if last else {})


WAITING = {"waiting": {"reason": "CrashLoopBackOff"}}
RUNNING: dict[str, Any] = {"running": {}}


@pytest.mark.parametrize(
    "missing",
    [
        {"observedGeneration": 1},
        {"updatedReplicas": 1},
        {"availableReplicas": 1},
        {"availableReplicas": None},
        {"replicas": 3},
    ],
)
def test_it_is_complete_only_if_all_pods_are_of_this_version_and_no_other_is_left(missing: dict[str, Any]) -> None:
    assert progress(deployment(), []).complete
    assert not progress(deployment(**missing), []).complete


def test_none_at_all_is_complete_too() -> None:
    gone = {"replicas": None, "updatedReplicas": None, "availableReplicas": None}
    assert progress(deployment(0, **gone), []).complete


def test_the_account_tells_what_is_missing() -> None:
    seen = progress(deployment(replicas=3, updatedReplicas=1), [])
    assert seen.account == "1 of 2 pods are of this version, 2 are available, 2 pods of the former version still there"
    starting = progress(deployment(availableReplicas=1), [pod(status(RUNNING))])
    assert "runs but is not ready: its /readyz does not answer with 200" in starting.account
    assert starting.failure is None


@pytest.mark.parametrize(("times", "final"), [(1, False), (2, False), (3, True)])
def test_crashes_are_borne_a_few_times(times: int, final: bool) -> None:
    ended = {"exitCode": 3, "reason": "Error", "message": "KeyError: 'x'"}
    seen = progress(deployment(availableReplicas=1), [pod(status(WAITING, times, ended))])
    assert "exit code 3" in seen.account
    assert (seen.failure is not None) == final
    assert seen.container == "app"


def test_what_cannot_be_mended_is_told_at_once() -> None:
    for code, reason in ((78, "Misconfigured"), (137, "OutOfMemory")):
        ended = {"exitCode": code, "reason": "OOMKilled" if code == 137 else "Error", "message": "no topic"}
        seen = progress(deployment(availableReplicas=1), [pod(status(WAITING, 1, ended))])
        assert seen.failure is not None
        assert (seen.failure.reason, seen.failure.lasting) == (reason, True)


def test_an_app_that_ends_in_peace_is_not_well() -> None:
    seen = progress(deployment(availableReplicas=1), [pod(status(WAITING, 3, {"exitCode": 0, "reason": "Completed"}))])
    assert seen.failure is not None
    assert "ended by itself" in seen.failure.message


def test_a_container_that_recovered_counts_no_more() -> None:
    ended = {"exitCode": 1, "reason": "Error"}
    recovered = pod(status(RUNNING, 5, ended, ready=True))
    assert "exit code" not in progress(deployment(availableReplicas=1), [recovered]).account


def test_the_code_is_there_after_a_second_try() -> None:
    code = {"name": "code", "ready": True, "restartCount": 1, "state": {"terminated": {"exitCode": 0}}}
    code["lastState"] = {"terminated": {"exitCode": 75}}
    seen = progress(
        deployment(availableReplicas=1), [pod(status({"waiting": {"reason": "PodInitializing"}}), init=(code,))]
    )
    assert "code" not in seen.account


@pytest.mark.parametrize("name", ["image-not-found", "missing-secret-env"])
def test_recorded_pods_that_cannot_start_are_bad_at_once(name: str) -> None:
    seen = progress(deployment(availableReplicas=1), [recorded(name)])
    assert seen.failure is not None
    assert seen.failure.lasting


def test_what_the_cluster_refuses() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "message": 'pods "x" is forbidden: violates PodSecurity "y"'}
    seen = progress(deployment(availableReplicas=0, updatedReplicas=0, conditions=[refused]), [])
    assert seen.failure is not None
    assert seen.failure.lasting
    full = "pods is forbidden: exceeded quota: q, requested: cpu=1, used: cpu=4, limited: cpu=4"
    seen = progress(deployment(availableReplicas=0, conditions=[{**refused, "message": full}]), [])
    assert seen.failure is None
    assert "it fits when other pods" in seen.account


def test_a_pod_that_leaves_does_not_count() -> None:
    leaving = pod(status(WAITING, 3, {"exitCode": 1}))
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert progress(deployment(availableReplicas=1), [leaving]).failure is None


def test_which_log_tells_why() -> None:
    assert started_again(pod(status(RUNNING, 1)), "app")
    assert not started_again(pod(status(WAITING, 1)), "app")
    assert not started_again(pod(status(RUNNING)), "other")


def test_events_are_asked_only_if_nothing_else_explains() -> None:
    silent = pod(status({"waiting": {"reason": "ContainerCreating"}}), phase="Pending")
    assert unexplained([pod(status(RUNNING)), silent]) is silent
    assert unexplained([pod(status(RUNNING))]) is None


def test_what_is_remembered_can_be_read_back() -> None:
    memory = Memory(good={"replicas": 1}, failed={"by": "x", "why": "y"}).fresh()
    assert memory.failed is None
    assert Memory.of({"metadata": {"annotations": memory.annotations}}).good == {"replicas": 1}
    assert Memory.of(None) == Memory()


def test_what_the_api_server_adds_is_no_difference() -> None:
    there = {"metadata": {"name": "a", "uid": "1", "generation": 4, "managedFields": [1]}, "spec": {"replicas": 1}}
    there["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "3"}
    assert not differs(there, {"metadata": {"name": "a", "annotations": {}}, "spec": {"replicas": 1}})
    assert differs(there, {"metadata": {"name": "a"}, "spec": {"replicas": 2}})
    assert differs(there, {"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"replicas": 1}})
    assert not is_ours(there)
