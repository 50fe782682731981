"""What the choices in `helm-values/airflow/config.yaml` are for."""

from __future__ import annotations

import pytest

from airflow_mlplatform.demo.airflow_api import DagRun
from tests.cluster.platform import ClusterPlatform
from tests.cluster.proxy import Fault
from tests.cluster.small_dags import publish_tiny

pytestmark = pytest.mark.long

OUTAGE = 30.0


@pytest.fixture(scope="module", autouse=True)
def dags(platform: ClusterPlatform) -> None:
    publish_tiny(platform)


def working(platform: ClusterPlatform, seconds: float) -> DagRun:
    """Start a task that waits, and return when it does."""
    run = platform.start("tiny", {"seconds": seconds})
    platform.wait_for_log(run, "work", "at work")
    return run


@pytest.mark.parametrize("how", [(), ("--force", "--grace-period=0")], ids=["gracefully", "by force"])
def test_a_deleted_worker_pod_is_noticed_by_the_executor(platform: ClusterPlatform, how: tuple[str, ...]) -> None:
    """And not only when nothing was heard of it for `task_instance_heartbeat_timeout`."""
    run = working(platform, 100)
    (pod,) = platform.pods.workers_of(run)
    platform.kubectl("delete", "pod", pod.name, "--wait=false", *how)
    platform.wait_until("it is tried again", lambda: len(platform.pods.workers_of(run)) == 2)
    assert run.run_id not in "".join(
        line for line in platform.airflow.log("scheduler").splitlines() if "without a heartbeat" in line
    )
    platform.fail(run)


def test_a_task_ends_well_while_the_api_server_is_away_for_a_minute(platform: ClusterPlatform) -> None:
    run = working(platform, 5)
    with platform.execution_api.broken("refuse", 2 * OUTAGE):
        assert platform.state(run, "work") == "running"
    platform.succeed(run)
    assert platform.tries(run, "work") == 1
    assert len(platform.pods.workers_of(run)) == 1


@pytest.mark.parametrize("fault", ["hang", "unavailable"])
def test_a_task_gets_its_pod_when_kubernetes_answers_again(platform: ClusterPlatform, fault: Fault) -> None:
    with platform.airflow.kubernetes.broken(fault, OUTAGE):
        run = platform.start("tiny")
        platform.wait_for_state(run, "work", "queued")
        assert not platform.pods.workers_of(run)
    platform.succeed(run)
    assert platform.tries(run, "work") == 1
    assert len(platform.pods.workers_of(run)) == 1
