"""Whatever dies or is away: one MLflow run, one pod's worth of work, one result."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from airflow_mlplatform.demo.airflow_api import DagRun
from tests.cluster.patient import clear, go, mark_failed, mlflow_runs, pods_of, publish_loads, publish_patients, trained
from tests.cluster.platform import ClusterPlatform
from tests.cluster.pod_history import SeenPod

AWAY = 30.0
Fault = Callable[[ClusterPlatform], AbstractContextManager[None]]


@pytest.fixture(scope="module", autouse=True)
def _patients(platform: ClusterPlatform) -> None:
    publish_patients(platform)


def waiting(platform: ClusterPlatform, word: str) -> tuple[DagRun, SeenPod]:
    """Start a training and wait until its code waits for the word."""
    run = platform.start("waiter", {"word": word})
    platform.wait_until("the training waits", lambda: _waits(platform, run))
    return run, pods_of(platform, run)[-1]


def _waits(platform: ClusterPlatform, run: DagRun) -> bool:
    pods = [pod for pod in pods_of(platform, run) if pod.ever("Running") and not pod.deleted]
    return bool(pods) and "waiting" in platform.kubectl("logs", pods[-1].name, "-c", "train", check=False)


@contextmanager
def restarted(platform: ClusterPlatform, part: str) -> Any:
    """A part of Airflow is killed and, some time later, started again."""
    platform.airflow.kill_part(part)
    yield
    platform.airflow.start_part(part)


FAULTS: dict[str, Fault] = {
    "triggerer killed": lambda platform: restarted(platform, "triggerer"),
    "scheduler killed": lambda platform: restarted(platform, "scheduler"),
    "Kubernetes API away": lambda platform: platform.airflow.kubernetes.broken("refuse", AWAY),
    "Kubernetes API hangs": lambda platform: platform.airflow.kubernetes.broken("hang", AWAY),
    "Airflow's API server away": lambda platform: platform.execution_api.broken("refuse", AWAY),
    "MLflow away": lambda platform: platform.services.mlflow.broken("unavailable", AWAY),
    "S3 refusing": lambda platform: platform.services.s3.broken("unavailable", AWAY),
}


def test_a_training_that_waits_outlives_every_fault(platform: ClusterPlatform, subtests: pytest.Subtests) -> None:
    run, pod = waiting(platform, "all-faults")
    for name, fault in FAULTS.items():
        with subtests.test(name):
            with fault(platform):
                pass
            assert platform.state(run, "train") == "deferred"
            assert [seen.name for seen in pods_of(platform, run)] == [pod.name]
    go(platform, "all-faults")
    platform.succeed(run)
    trained(platform, run)
    assert platform.tries(run, "train") == 1
    assert len(pods_of(platform, run)) == 1
    assert platform.pods.workers_of(run) == []


def test_mlflow_away_at_the_end(platform: ClusterPlatform) -> None:
    run, _ = waiting(platform, "end")
    go(platform, "end")
    platform.wait_until("the pod has ended", lambda: pods_of(platform, run)[-1].ever("Succeeded"))
    with platform.services.mlflow.broken("refuse", 5):
        pass
    platform.succeed(run)
    trained(platform, run)


@pytest.mark.parametrize(
    "how",
    [pytest.param((), marks=pytest.mark.long), ("--force", "--grace-period=0")],
    ids=["gracefully", "by force"],
)
def test_a_deleted_training_pod_is_made_again_for_the_same_run(platform: ClusterPlatform, how: tuple[str, ...]) -> None:
    word = f"deleted{len(how)}"
    run, pod = waiting(platform, word)
    platform.kubectl("delete", "pod", pod.name, "--wait=false", *how)
    platform.wait_until("there is another pod", lambda: len(pods_of(platform, run)) == 2)
    go(platform, word)
    platform.succeed(run)
    trained(platform, run)
    assert platform.tries(run, "train") == 2


def test_too_little_memory_fails_once_and_says_so(platform: ClusterPlatform) -> None:
    run = platform.finish(platform.start("hungry"))
    assert (run.state, platform.tries(run, "train")) == ("failed", 1)
    platform.wait_for_log(run, "train", "limit of 48Mi and was killed; raise resources.memory")
    (only,) = mlflow_runs(platform, run)
    assert only["info"]["status"] == "FAILED"
    assert len(pods_of(platform, run)) == 1


def test_clearing_a_finished_training_repeats_nothing(platform: ClusterPlatform) -> None:
    go(platform, "cleared")
    run = platform.succeed(platform.start("waiter", {"word": "cleared"}))
    first = platform.api.xcom(run, "train")
    clear(platform, run)
    platform.succeed(run)
    assert platform.tries(run, "train") == 2
    assert platform.api.xcom(run, "train") == first
    assert len(pods_of(platform, run)) == 1
    trained(platform, run)


def test_clearing_a_running_training_goes_on_with_its_run(platform: ClusterPlatform) -> None:
    run, _ = waiting(platform, "again")
    clear(platform, run)
    platform.wait_until(
        "the second try has its pod", lambda: platform.tries(run, "train") == 2 and _waits(platform, run)
    )
    go(platform, "again")
    platform.succeed(run)
    trained(platform, run)


def test_marking_it_failed_removes_the_pod(platform: ClusterPlatform) -> None:
    run, pod = waiting(platform, "failed")
    mark_failed(platform, run)
    platform.pods.wait_until_deleted([pod])
    platform.wait_until(
        "its run is closed", lambda: [one["info"]["status"] for one in mlflow_runs(platform, run)] == ["KILLED"]
    )


@pytest.mark.parametrize("when", ["before there is a training pod", pytest.param("after", marks=pytest.mark.long)])
def test_the_worker_that_starts_a_mapped_training_is_deleted(platform: ClusterPlatform, when: str) -> None:
    """Mapped tasks are the only trainings that have a worker at all."""
    word = when.partition(" ")[0]
    run = platform.start("mapped", {"word": word})
    (worker,) = platform.wait_until("there is a worker", lambda: platform.pods.workers_of(run))
    if when == "after":
        platform.wait_until("there is a training pod", lambda: pods_of(platform, run))
    platform.kubectl("delete", "pod", worker.name, "--force", "--grace-period=0", check=False)
    go(platform, word)
    platform.succeed(run)
    (only,) = mlflow_runs(platform, run)
    assert only["info"]["status"] == "FINISHED"
    assert len(pods_of(platform, run)) == 1


def test_an_etl_loads_once_though_s3_refuses_for_a_while(platform: ClusterPlatform) -> None:
    publish_loads(platform)
    run = platform.start("loads")
    platform.wait_until("a worker is there", lambda: platform.pods.workers_of(run))
    with platform.services.s3.broken("unavailable", AWAY):
        pass
    platform.succeed(run)
    assert platform.api.xcom(run, "load")["rows"] == 2
    assert len([key for key in platform.services.objects("pond/loads") if key.endswith(".parquet")]) == 1
    assert platform.services.objects("staging/loads") == []


@pytest.mark.parametrize(
    "ran", [pytest.param(False, marks=pytest.mark.long), True], ids=["before they run", "while they run"]
)
def test_an_etl_loads_once_though_its_workers_are_deleted(platform: ClusterPlatform, ran: bool) -> None:
    publish_loads(platform)
    run = platform.start("loads")
    for task_id in ("extract", "load"):
        pod = platform.wait_until(f"{task_id} is there", lambda task_id=task_id: _worker(platform, run, task_id, ran))
        platform.kubectl("delete", "pod", pod.name, "--force", "--grace-period=0", check=False)
    platform.succeed(run)
    assert platform.api.xcom(run, "load")["rows"] == 2
    assert len([key for key in platform.services.objects("pond/loads") if key.endswith(".parquet")]) == 1


def _worker(platform: ClusterPlatform, run: DagRun, task_id: str, ran: bool) -> SeenPod | None:
    pods = platform.pods.workers(run.dag_id, run.run_id, task_id)
    return next((pod for pod in pods if not ran or pod.ever("Running")), None)
