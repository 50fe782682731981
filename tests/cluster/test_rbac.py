"""Roles are minimal: other tests walk the loop under them, and here each verb that is taken away breaks something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from airflow_mlplatform.demo.airflow_api import DagRun
from tests.cluster.control_plane import HELM_VALUES
from tests.cluster.images import STREAMING
from tests.cluster.platform import ClusterPlatform
from tests.cluster.small_dags import publish_flows, publish_tiny, publish_trains
from tests.waiting import wait_for

RBAC = HELM_VALUES / "platform" / "rbac.yaml"
POWERLESS = ["airflow-worker", "mlplatform-training"]


def roles() -> dict[str, dict[str, Any]]:
    """Return the shipped roles by name."""
    documents = yaml.safe_load_all(RBAC.read_text("utf-8"))
    return {found["metadata"]["name"]: found for found in documents if found["kind"] == "Role"}


def granted() -> list[tuple[str, str, str]]:
    """Return each role's name with a resource and a verb that it grants."""
    return [
        (name, resource, verb)
        for name, role in roles().items()
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def may(platform: ClusterPlatform, account: str, verb: str, resource: str) -> bool:
    """Ask Kubernetes whether a service account may do something."""
    who = f"system:serviceaccount:{platform.kubectl.namespace}:{account}"
    kind, _, subresource = resource.partition("/")
    words = ["auth", "can-i", verb, kind, f"--subresource={subresource}", f"--as={who}"]
    return platform.kubectl(*words, check=False).strip() == "yes"


@contextmanager
def without(platform: ClusterPlatform, role: str, resource: str, verb: str) -> Iterator[None]:
    """Take one verb away; connections that are open already are cut, as Kubernetes asks for rights at their start."""
    shipped = roles()[role]
    reduced = [
        {**rule, "verbs": [each for each in rule["verbs"] if each != verb or rule["resources"] != [resource]]}
        for rule in shipped["rules"]
    ]
    platform.kubectl.apply({**shipped, "rules": [rule for rule in reduced if rule["verbs"]]})
    wait_for(lambda: not may(platform, role, verb, resource), f"until {role} may not {verb} {resource}")
    platform.airflow.kubernetes.cut()
    try:
        yield
    finally:
        platform.kubectl.apply(shipped)
        wait_for(lambda: may(platform, role, verb, resource), f"until {role} may {verb} {resource}")


@pytest.fixture(scope="module", autouse=True)
def dags(platform: ClusterPlatform) -> None:
    publish_tiny(platform)
    publish_trains(platform)
    publish_flows(platform)


def working(platform: ClusterPlatform, seconds: float) -> DagRun:
    """Start a task that waits and return when it is running."""
    run = platform.start("tiny", {"seconds": seconds})
    platform.wait_for_state(run, "work", "running")
    return run


def create_pods(platform: ClusterPlatform) -> None:
    """No task runs: there is no pod for it."""
    run = platform.finish(platform.start("tiny"))
    assert run.state == "failed"
    assert not platform.pods.workers_of(run)
    platform.wait_for_log(run, "work", "cannot create resource")


def list_pods(platform: ClusterPlatform) -> None:
    """A scheduler that starts looks for pods that another one left, and ends if it may not."""
    platform.airflow.stop_part("scheduler")
    platform.airflow.start_part("scheduler")
    try:
        wait_for(lambda: not platform.airflow.runs("scheduler"), "until the scheduler has ended", 90)
        assert "cannot list resource" in platform.airflow.log("scheduler")
    finally:
        platform.airflow.stop_part("scheduler")
        platform.airflow.start_part("scheduler")


def watch_pods(platform: ClusterPlatform) -> None:
    """Pods that have ended are not noticed, and not removed."""
    run = platform.succeed(platform.start("tiny"))
    wait_for(lambda: "cannot watch resource" in platform.airflow.log("scheduler"), "until the watch is refused")
    (pod,) = platform.pods.workers_of(run)
    assert not pod.deleted


def delete_pods(platform: ClusterPlatform) -> None:
    """The scheduler tries to remove the pod of a task that has ended, again and again, and does nothing else."""
    run = platform.start("tiny")
    platform.wait_for_state(run, "work", "success")
    wait_for(lambda: "cannot delete resource" in platform.airflow.log("scheduler"), "until the removal is refused")
    (pod,) = platform.pods.workers_of(run)
    assert not pod.deleted


def patch_pods(platform: ClusterPlatform) -> None:
    """A scheduler that starts cannot take over the pod of a running task, and has its work done twice."""
    run = working(platform, 300)
    platform.airflow.stop_part("scheduler")
    platform.airflow.start_part("scheduler")
    platform.wait_until("another pod does the same", lambda: len(platform.pods.workers_of(run)) > 1)
    platform.fail(run)


def start_training(platform: ClusterPlatform) -> None:
    """No training runs: there is no pod for it."""
    run = platform.finish(platform.start("trains"))
    assert run.state == "failed"
    platform.wait_for_log(run, "train", "cannot create resource")


def see_training(platform: ClusterPlatform) -> None:
    """A training cannot be followed."""
    run = platform.finish(platform.start("trains"))
    assert run.state == "failed"
    platform.wait_for_log(run, "train", "cannot get resource")


def remove_training(platform: ClusterPlatform) -> None:
    """The pod of a training stays."""
    run = platform.finish(platform.start("trains"))
    assert run.state == "failed"
    platform.wait_for_log(run, "train", "cannot delete resource")


def show_training(platform: ClusterPlatform) -> None:
    """What a training prints is not in the task's log."""
    run = platform.succeed(platform.start("trains"))
    assert "trained" not in platform.wait_for_log(run, "train", "cannot get resource")


def refused(platform: ClusterPlatform, name: str, verb: str) -> None:
    """The app is not brought into its state, and the log tells the verb that lacks."""
    run = platform.finish(platform.start(f"flows-{name}"))
    assert run.state == "failed"
    platform.wait_for_log(run, "app", f"cannot {verb} resource")


def see_app(platform: ClusterPlatform) -> None:
    """Nobody knows whether there is an app."""
    refused(platform, "well", "get")


def make_app(platform: ClusterPlatform) -> None:
    """No app is made."""
    platform.kubectl("delete", "deployment", "flows-well", "--ignore-not-found")
    refused(platform, "well", "create")


def change_app(platform: ClusterPlatform) -> None:
    """No app is made or changed."""
    refused(platform, "well", "patch")


def see_pods_of_app(platform: ClusterPlatform) -> None:
    """Nobody knows how an app does."""
    refused(platform, "well", "list")


def explain_app(platform: ClusterPlatform) -> None:
    """Why an app does not start is not told, where only its events say it."""
    run = platform.finish(platform.start("flows-starved"))
    assert run.state == "failed"
    platform.wait_for_log(run, "app", "why is not known")


def remove_app(platform: ClusterPlatform) -> None:
    """An app stays."""
    labels = {"app.kubernetes.io/name": "flows-absent", "app.kubernetes.io/managed-by": "airflow-mlplatform"}
    platform.kubectl("create", "deployment", "flows-absent", f"--image={platform.images(STREAMING)}", "--replicas=0")
    platform.kubectl("label", "deployment", "flows-absent", *(f"{key}={value}" for key, value in labels.items()))
    refused(platform, "absent", "delete")


def show_running_task(platform: ClusterPlatform) -> None:
    """What a task prints is not shown before it has ended."""
    run = working(platform, 8)
    assert "at work" not in platform.api.log(run, "work")
    platform.wait_for_log(platform.succeed(run), "work", "at work")


BREAKS = {
    ("airflow-scheduler", "pods", "create"): create_pods,
    ("airflow-scheduler", "pods", "list"): list_pods,
    ("airflow-scheduler", "pods", "watch"): watch_pods,
    ("airflow-scheduler", "pods", "delete"): delete_pods,
    ("airflow-scheduler", "pods", "patch"): patch_pods,
    ("airflow-triggerer", "pods", "create"): start_training,
    ("airflow-triggerer", "pods", "get"): see_training,
    ("airflow-triggerer", "pods", "delete"): remove_training,
    ("airflow-triggerer", "pods/log", "get"): show_training,
    ("airflow-triggerer", "pods", "list"): see_pods_of_app,
    ("airflow-triggerer", "events", "list"): explain_app,
    ("airflow-triggerer", "deployments", "get"): see_app,
    ("airflow-triggerer", "deployments", "create"): make_app,
    ("airflow-triggerer", "deployments", "patch"): change_app,
    ("airflow-triggerer", "deployments", "delete"): remove_app,
    ("airflow-api-server", "pods", "list"): show_running_task,
    ("airflow-api-server", "pods/log", "get"): show_running_task,
}


@pytest.mark.parametrize(("role", "resource", "verb"), granted())
def test_without_it_something_breaks(platform: ClusterPlatform, role: str, resource: str, verb: str) -> None:
    with without(platform, role, resource, verb):
        BREAKS[role, resource, verb](platform)


@pytest.mark.parametrize("account", [*roles(), *POWERLESS])
def test_an_account_may_do_what_its_role_says_and_nothing_else(platform: ClusterPlatform, account: str) -> None:
    who = f"system:serviceaccount:{platform.kubectl.namespace}:{account}"
    lines = platform.kubectl("auth", "can-i", "--list", "--no-headers", f"--as={who}").splitlines()
    found = {line.split()[0]: line.rpartition("[")[2].rstrip("]").split() for line in lines if not line.startswith(" ")}
    own = {resource: verbs for resource, verbs in found.items() if not resource.endswith(".k8s.io")}
    expected = {
        ".".join([resource, *filter(None, rule["apiGroups"])]): rule["verbs"]
        for rule in roles().get(account, {"rules": ()})["rules"]
        for resource in rule["resources"]
    }
    assert own == expected
