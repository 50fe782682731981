"""Why a worker pod failed stands in the log of its task; mistakes are not tried again, lost pods are."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlplatform.demo.airflow_api import DagRun
from tests.cluster.platform import ClusterPlatform

pytestmark = pytest.mark.long

SPEC = """\
apiVersion: mlplatform/v1
kind: etl
name: {name}
schedule: null
start: 2026-01-01
retries: {{count: 2, delay: 1s}}
defaults: {defaults}
extract:
  http: {{url: "{url}", format: csv}}
load: {{uri: "pond://{name}.parquet"}}
"""


def start(platform: ClusterPlatform, name: str, defaults: str, url: str = "http://127.0.0.1:9/none.csv") -> DagRun:
    platform.publish({f"{name}.yaml": SPEC.format(name=name, defaults=defaults, url=url)}, name)
    return platform.start(name)


def reason_on_s3(platform: ClusterPlatform, run: DagRun) -> bool:
    keys = platform.services.objects("logs")
    return any(f"/run_id={run.run_id}/" in key and key.endswith("/attempt=1.log.pod.log") for key in keys)


MISTAKES = {
    "image": ("{image: REGISTRY/nobody/has:this}", "/nobody/has:this cannot be pulled"),
    "secret": ("{env: {TOKEN: {secret: not-there, key: token}}}", "the Secret not-there does not exist"),
    "memory": ("{resources: {memory: 32Mi}}", "its limit of 32Mi"),
    "account": ("{service_account: nobody}", 'serviceaccount "nobody" not found'),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_and_not_tried_again(platform: ClusterPlatform, mistake: str) -> None:
    defaults, told = MISTAKES[mistake]
    run = start(platform, f"mistaken-{mistake}", defaults.replace("REGISTRY", platform.images.registry))
    assert platform.finish(run).state == "failed"
    assert platform.tries(run, "extract") == 1
    platform.wait_until("its log tells why", lambda: told in platform.api.log(run, "extract"))
    platform.wait_until("the reason lies on S3", lambda: reason_on_s3(platform, run))
    pods = platform.pods.workers_of(run)
    assert len(pods) <= 1
    platform.pods.wait_until_deleted(pods)


def test_what_a_pod_waits_for_is_told_while_it_waits(platform: ClusterPlatform) -> None:
    run = start(platform, "waits", "{node_selector: {disktype: none-has-it}}")
    told = "node selector (disktype=none-has-it)"
    platform.wait_until("its log tells what it waits for", lambda: told in platform.api.log(run, "extract"))
    assert platform.state(run, "extract") == "queued"
    (pod,) = platform.pods.workers_of(run)
    platform.api.patch(f"/dags/{run.dag_id}/dagRuns/{run.run_id}", {"state": "failed"})
    platform.pods.wait_until_deleted([pod])


def test_a_lost_pod_is_told_and_tried_again(platform: ClusterPlatform) -> None:
    with platform.services.mlflow.broken("hang"):
        run = start(platform, "lost", "{}", f"{platform.services.mlflow_url}/lost.csv")
        platform.wait_for_state(run, "extract", "running")
        (pod,) = platform.pods.workers_of(run)
        platform.kubectl("delete", "pod", pod.name, "--force", "--grace-period=0")
        platform.wait_until("it is tried again", lambda: platform.tries(run, "extract") == 2)
    told = "the pod is gone"
    platform.wait_until("the log of the first try tells why", lambda: told in platform.api.log(run, "extract", 1))


def test_a_pod_lost_while_it_waits_is_told_and_tried_again(platform: ClusterPlatform) -> None:
    run = start(platform, "lost-waiting", "{node_selector: {disktype: none-has-it}}")
    platform.wait_until("there is a pod", lambda: "waits for a node" in platform.api.log(run, "extract"))
    (pod,) = platform.pods.workers_of(run)
    platform.kubectl("delete", "pod", pod.name, "--force", "--grace-period=0")
    platform.wait_until("it is tried again", lambda: platform.tries(run, "extract") == 2)
    platform.wait_until("the first log tells why", lambda: "the pod is gone" in platform.api.log(run, "extract", 1))
    platform.api.patch(f"/dags/{run.dag_id}/dagRuns/{run.run_id}", {"state": "failed"})


HUNGRY = """\
apiVersion: mlplatform/v1
kind: etl
name: hungry
schedule: null
start: 2026-01-01
retries: {count: 2, delay: 1s}
defaults: {resources: {memory: 700Mi}}
extract:
  files: {uri: "pond://raw/hungry.csv"}
transform:
  - python: hungry_code:run
load: {uri: "pond://hungry.parquet"}
"""
HUNGRY_CODE = """\
def run(table):
    eaten = []
    while True:
        eaten.append(bytearray(50_000_000))
"""


def test_a_task_that_needs_more_memory_than_its_limit(platform: ClusterPlatform, tmp_path: Path) -> None:
    (tmp_path / "hungry.csv").write_text("a\n1\n")
    platform.services.upload(tmp_path / "hungry.csv", "pond/raw/hungry.csv")
    platform.publish({"hungry.yaml": HUNGRY, "hungry_code.py": HUNGRY_CODE}, "hungry")
    run = platform.start("hungry")
    assert platform.finish(run).state == "failed"
    assert platform.tries(run, "transform_1") == 1
    platform.wait_until("the log tells why", lambda: "limit of 700Mi" in platform.api.log(run, "transform_1"))
