"""Pods that failed on a real Kubernetes 1.34, recorded in pods/, and what is said about them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_mlplatform.runtime.pod_failure import EX_CONFIG, PodFailure, failure, obstacle, out_of_memory

PODS = Path(__file__).parent / "pods"


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PODS / f"{name}.json").read_text("utf-8"))
    return found


def waiting(reason: str, message: str, image: str = "busybox:1") -> dict[str, Any]:
    """A pod as ErrImagePull leaves it, with another message: shapes that could not be provoked here."""
    found = pod("image-not-found")
    found["spec"]["containers"][0]["image"] = image
    found["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": reason, "message": message}}
    return found


def ended(**terminated: Any) -> dict[str, Any]:
    found = pod("exit-1")
    found["status"]["containerStatuses"][0]["state"]["terminated"] |= terminated
    return found


LASTING = {
    "image-not-found": ("ImagePull", "container train: the image localhost:5000/nobody:1 cannot be pulled: "),
    "image-no-tag": ("ImagePull", "localhost:5000/python:nope: not found; check the image's name and tag"),
    "image-unauthorized": ("ImagePull", "401 Unauthorized; check the image's name and tag, and the pull secret"),
    "image-never": ("ImagePull", "is not present with pull policy of Never"),
    "image-invalid-name": ("InvalidImage", "repository name (A Valid) must be lowercase"),
    "init-image-not-found": ("ImagePull", "container project: the image localhost:5000/nobody:1 cannot be pulled"),
    "missing-secret-env": (
        "MissingSecret",
        "the Secret mlflow-credentials does not exist; correct the name, or create",
    ),
    "missing-secret-key": ("MissingSecret", "the Secret there has no key nokey"),
    "missing-configmap-env": ("MissingConfig", "the ConfigMap nocm does not exist"),
    "root-refused": ("RunsAsRoot", "container has runAsNonRoot and image will run as root; give the image a numeric"),
    "unsched-pvc": ("MissingVolume", "its persistent volume claim nope does not exist; create it"),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_can_never_start_is_final(name: str) -> None:
    reason, told = LASTING[name]
    found = obstacle(pod(name))
    assert found is not None
    assert (found.reason, found.lasting, found.final) == (reason, True, True)
    assert told in found.message
    assert f"pod {name} in namespace ml" in found.message
    assert failure(pod(name)) is None


PASSING = {
    "image-server-error": ("ImagePull", "503 Service Unavailable; Kubernetes tries again"),
    "image-too-many": ("ImagePull", "429 Too Many Requests"),
    "image-no-registry": ("ImagePull", "dial tcp 127.0.0.1:9: connect: connection refused"),
    "image-unknown-host": ("ImagePull", "no such host"),
    "unsched-cpu": ("Unschedulable", "too little free cpu on 1 (train asks for cpu 64)"),
    "unsched-memory": ("Unschedulable", "too little free memory on 1 (train asks for memory 900Gi)"),
    "unsched-gpu": ("Unschedulable", "too little free nvidia.com/gpu on 1 (train asks for nvidia.com/gpu 1)"),
    "unsched-selector": ("Unschedulable", "0/1 fit: the labels of its node selector (gpu=a100) are missing on 1"),
    "unsched-taint": ("Unschedulable", "(podfailure=ghost) are missing on 1; a taint that it does not tolerate on 1;"),
    "missing-secret-volume": ("Volumes", "waits for its volumes: Secret ssh-key; see that they exist"),
    "missing-configmap-volume": ("Volumes", "ConfigMap nocm"),
    "host-path-missing": ("Volumes", "the node's folder /nonexistent/x"),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_may_pass_is_waited_for(name: str) -> None:
    reason, told = PASSING[name]
    found = obstacle(pod(name))
    assert found is not None
    assert (found.reason, found.lasting, found.final) == (reason, False, False)
    assert told in found.message


FAILED = {
    "oom-own-limit": ("OutOfMemory", True, "container train needed more memory than its limit of 64Mi and was killed"),
    "oom-init": ("OutOfMemory", True, "container project needed more memory than its limit of 64Mi"),
    "oom-child": ("OutOfMemory", True, "its limit of 64Mi and was killed; raise resources.memory"),
    "exit-1": (
        "ExitCode",
        False,
        "container train ended with exit code 1: ValueError: no column alcohol\nIts last lines:",
    ),
    "exit-127-sh": ("ExitCode", False, "exit code 127: sh: 1: nonexistent-program: not found"),
    "exit-143": ("ExitCode", False, "exit code 143 (SIGTERM): it printed nothing; see its log"),
    "poststart": ("ExitCode", False, "exit code 137 (SIGKILL)"),
    "two-containers-second-fails": ("ExitCode", False, "container b ended with exit code 3: broken"),
    "init-exit-78": ("Misconfigured", True, "project says that its configuration is wrong: no branch maim in the repo"),
    "no-such-command": ("CannotStart", True, 'exec: "nonexistent-program": executable file not found in $PATH'),
    "not-executable": ("CannotStart", True, 'exec: "/etc/passwd": permission denied'),
    "bad-workdir": ("CannotStart", True, "not a directory: unknown; correct its command or working directory"),
    "evicted-ephemeral": ("Evicted", False, "ephemeral local storage usage exceeds the total limit of containers 20Mi"),
    "evicted-emptydir": ("Evicted", False, 'Usage of EmptyDir volume "w" exceeds the limit "20Mi"'),
    "evicted-api": ("Evicted", False, "Eviction API: evicting); a retry starts a new pod"),
    "preempted": ("Preempted", False, "preempting to accommodate a higher priority pod"),
    "node-unreachable": ("NodeLost", False, "was removed because its node became unreachable"),
    "node-removed": ("NodeLost", False, "PodGC: node no longer exists); a retry starts a new pod"),
    "deleted-running": ("Deleted", False, "was deleted before its work was done"),
    "deleting": ("Deleted", False, "was deleted before its work was done"),
    "deleted-exits-1": ("ExitCode", False, "interrupted"),
    "deadline": ("DeadlineExceeded", False, "ran longer than its activeDeadlineSeconds allow"),
    "deadline-pending": ("DeadlineExceeded", False, "ran longer than its activeDeadlineSeconds allow"),
    "node-cpu-outof": ("Rejected", False, "OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu"),
    "node-name-wrong": ("Rejected", False, "NodeAffinity: Pod was rejected"),
}


@pytest.mark.parametrize("name", FAILED)
def test_why_a_pod_failed(name: str) -> None:
    reason, lasting, told = FAILED[name]
    found = failure(pod(name))
    assert found is not None
    assert (found.reason, found.lasting, found.final) == (reason, lasting, True)
    assert told in found.message
    assert f"pod {name.replace('deleting', 'deleted-running')} in namespace ml" in found.message


def test_every_recording_is_looked_at() -> None:
    told = {*LASTING, *PASSING, *FAILED, "succeeded", "running", "preemption-planned", "refusals"}
    assert {file.stem for file in PODS.glob("*.json")} == told


@pytest.mark.parametrize("name", ["succeeded", "running", "preemption-planned"])
def test_nothing_is_said_about_pods_that_did_not_fail(name: str) -> None:
    assert failure(pod(name)) is None
    assert obstacle(pod(name)) is None


def test_a_pod_that_is_gone_may_live_in_the_next_try() -> None:
    found = failure(None)
    assert found is not None
    assert (found.reason, found.lasting) == ("Deleted", False)


def test_a_pod_that_has_just_been_made_has_no_obstacle() -> None:
    assert obstacle({"metadata": {"name": "new"}, "spec": {"containers": []}, "status": {}}) is None
    assert obstacle({"metadata": {"name": "new"}}) is None


def test_last_lines_of_the_log_win_over_the_termination_message() -> None:
    found = failure(pod("exit-1"), ["a", "KeyError: 'proline'"])
    assert found is not None
    assert "exit code 1: KeyError: 'proline'\nIts last lines:\na\nKeyError: 'proline'" in found.message
    assert "alcohol" not in found.message


def test_the_excuses_of_a_node_are_no_last_words() -> None:
    excuse = pod("evicted-ephemeral")["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
    found = failure(ended(message=excuse))
    assert found is not None
    assert "it printed nothing" in found.message


def test_any_container_may_say_that_a_retry_cannot_help() -> None:
    found = failure(ended(exitCode=EX_CONFIG), ["no such entry point: mian"])
    assert found is not None
    assert (found.reason, found.lasting) == ("Misconfigured", True)
    assert found.message.endswith("its configuration is wrong: no such entry point: mian")


def test_want_of_memory_without_a_limit_is_the_nodes() -> None:
    without = pod("oom-own-limit")
    del without["spec"]["containers"][0]["resources"]
    found = failure(without)
    assert found is not None
    assert (found.reason, found.lasting) == ("OutOfMemory", False)
    assert "no memory limit, so its node ran out" in found.message


def test_want_of_memory_is_told_even_of_a_pod_that_succeeded() -> None:
    # As observed: Airflow's supervisor outlived the process of the task, and ended well.
    survived = pod("oom-child")
    survived["status"]["phase"] = "Succeeded"
    survived["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] = 0
    assert failure(survived) is None
    found = out_of_memory(survived)
    assert found is not None
    assert (found.reason, found.lasting) == ("OutOfMemory", True)
    assert "its limit of 64Mi" in found.message
    assert out_of_memory(pod("exit-1")) is None
    assert out_of_memory(pod("unsched-cpu")) is None


def test_the_limit_of_the_whole_pod_is_named() -> None:
    limited = pod("oom-own-limit")
    del limited["spec"]["containers"][0]["resources"]
    limited["spec"]["resources"] = {"limits": {"memory": "1Gi"}}
    found = failure(limited)
    assert found is not None
    assert "the pod's limit of 1Gi" in found.message
    assert found.lasting


def test_a_failure_stays_one_when_its_pod_is_deleted_later() -> None:
    tidied = pod("exit-1")
    tidied["metadata"] |= {"deletionTimestamp": "2099-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30}
    found = failure(tidied)
    assert found is not None
    assert found.reason == "ExitCode"


def test_what_a_program_answers_to_being_deleted_is_not_its_failure() -> None:
    deleted = pod("deleted-exits-1")
    # Five seconds after it was asked to end.
    deleted["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = "2099-01-01T00:00:05Z"
    deleted["metadata"] |= {"deletionTimestamp": "2099-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30}
    found = failure(deleted)
    assert found is not None
    assert found.reason == "Deleted"


def test_the_first_container_that_failed_is_told() -> None:
    both = pod("two-containers-second-fails")
    first, second = (status["state"]["terminated"] for status in both["status"]["containerStatuses"])
    first |= {"exitCode": 143, "reason": "Error", "finishedAt": "2099-01-01T00:00:00Z"}
    assert second["exitCode"] == 3
    found = failure(both)
    assert found is not None
    assert "container b ended with exit code 3" in found.message


# Not provoked here: a node that loses a container, one that shuts down, a virtual kubelet. Shapes as documented.
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"phase": "Failed", "reason": "NodeLost", "message": "Node x is unresponsive"}, "NodeLost"),
        ({"phase": "Failed", "reason": "Terminated", "message": "Pod was terminated in response to …"}, "NodeLost"),
        (
            {"phase": "Failed", "reason": "NodeShutdown", "message": "Pod was rejected: node is shutting down"},
            "NodeLost",
        ),
        (
            {"phase": "Failed", "reason": "Preempting", "message": "Preempted in order to admit critical pod"},
            "Preempted",
        ),
        ({"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no healthy devices"}, "Rejected"),
        ({"phase": "Failed", "reason": "ProviderFailed"}, "Rejected"),
        ({"phase": "Failed"}, "Rejected"),
    ],
)
def test_what_the_cluster_did_is_tried_again(status: dict[str, str], reason: str) -> None:
    found = failure({"metadata": {"name": "x"}, "spec": {}, "status": status})
    assert found is not None
    assert (found.reason, found.lasting) == (reason, False)
    assert status.get("message", "") in found.message


def test_a_container_that_its_node_lost_is_tried_again() -> None:
    found = failure(
        ended(exitCode=137, reason="ContainerStatusUnknown", message="The container could not be located …")
    )
    assert found is not None
    assert (found.reason, found.lasting) == ("NodeLost", False)


def test_a_container_that_does_not_fit_into_its_memory_limit() -> None:
    words = (
        "runc create failed: unable to start container process: container init was OOM-killed (memory limit too low?)"
    )
    found = failure(ended(exitCode=128, reason="StartError", message=words))
    assert found is not None
    assert (found.reason, found.lasting) == ("OutOfMemory", True)


def test_a_runtime_that_hiccups_is_tried_again() -> None:
    found = failure(
        ended(exitCode=128, reason="StartError", message="failed to create containerd task: context canceled")
    )
    assert found is not None
    assert (found.reason, found.lasting) == ("CannotStart", False)


# Messages of other registries and container engines, as their documentation and issues show them.
HUB = "failed to pull and unpack image {0}: failed to resolve reference {0}: "


@pytest.mark.parametrize(
    ("message", "lasting"),
    [
        (HUB + "pull access denied, repository does not exist or may require authorization", True),
        (HUB + "failed to authorize: failed to fetch anonymous token: unexpected status: 403 Forbidden", True),
        (HUB + "unexpected status code 401 Unauthorized", True),
        (HUB + 'failed to do request: Head "https://x/v2/": x509: certificate signed by unknown authority', True),
        (HUB + 'failed to do request: Head "https://x/v2/": http: server gave HTTP response to HTTPS client', True),
        (HUB + "no match for platform in manifest: not found", True),
        (HUB + "toomanyrequests: You have reached your unauthenticated pull rate limit", False),
        (HUB + 'failed to do request: Head "https://x/v2/": dial tcp 10.0.0.1:443: i/o timeout', False),
        (HUB + 'failed to do request: Head "https://x/v2/": net/http: TLS handshake timeout', False),
        (HUB + 'failed to do request: Head "https://x/v2/": context deadline exceeded', False),
        (HUB + "unexpected status from HEAD request to https://x/v2/: 502 Bad Gateway", False),
        (HUB + "unexpected status: 403 Forbidden: your authorization token has expired", False),
        ("pull QPS exceeded", False),
        ('Back-off pulling image "busybox:1"', False),
        ("", False),
    ],
)
@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
def test_images_of_other_registries(reason: str, message: str, lasting: bool) -> None:
    found = obstacle(waiting(reason, message.format('"docker.io/library/busybox:1"')))
    assert found is not None
    assert (found.reason, found.lasting, found.final) == ("ImagePull", lasting, lasting)
    assert "the image busybox:1 cannot be pulled" in found.message


def test_the_words_of_an_image_name_decide_nothing() -> None:
    name = "localhost:5000/timeout-denied/503-not:found"
    busy = "pulling from host localhost:5000 failed with status code [manifests 1]: 503 Service Unavailable"
    gone = f'rpc error: code = NotFound desc = failed to resolve reference "{name}": {name}: not found'
    for message, lasting in ((f'failed to resolve reference "{name}": {busy}', False), (gone, True)):
        found = obstacle(waiting("ErrImagePull", message, name))
        assert found is not None
        assert found.lasting is lasting


# A node that has not heard of a Secret yet says so with the same reason; not provoked here.
@pytest.mark.parametrize(
    "message",
    [
        "failed to sync secret cache: timed out waiting for the condition",
        "services have not yet been read at least once",
    ],
)
def test_a_node_that_is_not_ready_yet_is_waited_for(message: str) -> None:
    found = obstacle(waiting("CreateContainerConfigError", message))
    assert found is not None
    assert (found.reason, found.final) == ("CannotStart", False)
    assert message in found.message


def test_scheduling_gates_are_waited_for() -> None:
    gated = pod("unsched-cpu")
    gated["status"]["conditions"] = [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to …",
        }
    ]
    found = obstacle(gated)
    assert found is not None
    assert (found.reason, found.final) == ("Gated", False)


def test_taints_are_named_where_the_scheduler_names_them() -> None:
    tainted = pod("unsched-taint")
    scheduled = next(each for each in tainted["status"]["conditions"] if each["type"] == "PodScheduled")
    scheduled["message"] = (
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {gpu: only}. preemption: 0/3 …"
    )
    found = obstacle(tainted)
    assert found is not None
    assert (
        "0/3 fit: too little free cpu on 1 (see its requests); a taint that it does not tolerate on 2 (gpu: only);"
        in (found.message)
    )


def test_nothing_is_changed_in_what_is_looked_at() -> None:
    for file in PODS.glob("*.json"):
        before = json.loads(file.read_text("utf-8"))
        now = copy.deepcopy(before)
        failure(now)
        obstacle(now)
        assert now == before


def test_a_failure_can_be_compared() -> None:
    assert failure(None) == failure(None)
    assert isinstance(failure(None), PodFailure)
