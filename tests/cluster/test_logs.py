"""Logs are there while a task runs, and after its pod has gone."""

from __future__ import annotations

import pytest

from tests.cluster.platform import ClusterPlatform
from tests.cluster.small_dags import publish_tiny, publish_trains


@pytest.fixture(scope="module", autouse=True)
def dags(platform: ClusterPlatform) -> None:
    publish_tiny(platform)
    publish_trains(platform)


def test_of_a_worker_pod(platform: ClusterPlatform) -> None:
    run = platform.start("tiny", {"seconds": 10})
    platform.wait_for_log(run, "work", "at work")
    assert platform.state(run, "work") == "running"
    pods = platform.pods.workers_of(platform.succeed(run))
    platform.pods.wait_until_deleted(pods)
    log = platform.wait_for_log(run, "work", "at work")
    assert "s3://logs/airflow/dag_id=tiny/" in log


def test_of_a_trigger_and_the_pod_that_it_followed(platform: ClusterPlatform) -> None:
    run = platform.succeed(platform.start("trains"))
    assert not platform.pods.workers_of(run)
    log = platform.wait_for_log(run, "train", "trained")
    assert "s3://logs/airflow/dag_id=trains/" in log
