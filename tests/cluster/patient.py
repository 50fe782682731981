"""A training that waits for a word from the test, so that it can break things meanwhile."""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from airflow_mlplatform.demo.airflow_api import DagRun
    from tests.cluster.platform import ClusterPlatform
    from tests.cluster.pod_history import SeenPod

__all__ = ["clear", "go", "mark_failed", "mlflow_runs", "pods_of", "publish_loads", "publish_patients", "trained"]

TRAINING = """\
apiVersion: mlplatform/v1
kind: training
name: {name}
start: 2026-01-01
retries: {{count: 2, delay: 1s}}
params: {{word: {{type: string, default: go}}}}
defaults: {{resources: {{memory: {memory}}}}}
project: {{uri: project, parameters: {{word: "{{{{ params.word }}}}"}}}}
experiment: {name}
"""
MLPROJECT = """\
name: patient
entry_points:
  main:
    parameters: {word: string}
    command: "python train.py {word}"
"""
TRAIN = """\
import sys
import time

import boto3
import mlflow
from botocore.exceptions import BotoCoreError, ClientError


def told(word: str) -> bool:
    try:
        return boto3.client("s3").list_objects_v2(Bucket="pond", Prefix=f"words/{word}")["KeyCount"] > 0
    except (BotoCoreError, ClientError):
        return False


with mlflow.start_run():
    print("waiting", flush=True)
    while not told(sys.argv[1]):
        time.sleep(0.5)
    mlflow.log_metric("score", 1.0)
    print("trained", flush=True)
"""

LOADS = """\
apiVersion: mlplatform/v1
kind: etl
name: loads
start: 2026-01-01
retries: {count: 5, delay: 5s}
extract: {files: {uri: "pond://raw/loads.csv"}}
load: {uri: "pond://loads"}
"""
MAPPED = """\
from airflow.sdk import DAG
from airflow_mlplatform import MlflowRunOperator

with DAG("mapped", schedule=None, params={"word": "go"}, default_args={"retries": 2, "retry_delay": 1}):
    MlflowRunOperator.partial(
        task_id="train",
        uri="project",
        experiment="mapped",
        bundle={"name": "specs", "folder": "waiter"},
        pod={"resources": {"memory": "1Gi"}},
    ).expand(combination=[{"word": "{{ params.word }}"}])
"""


def publish_patients(platform: ClusterPlatform) -> None:
    """Publish `waiter`, which waits for its word, the same `mapped`, and `hungry`, which has too little memory."""
    for name, memory in (("waiter", "1Gi"), ("hungry", "48Mi")):
        platform.publish(
            {
                f"{name}/training.yaml": TRAINING.format(name=name, memory=memory),
                f"{name}/project/MLproject": MLPROJECT,
                f"{name}/project/train.py": TRAIN,
            },
            name,
        )
    platform.publish({"dags/mapped.py": MAPPED}, "mapped")


def publish_loads(platform: ClusterPlatform) -> None:
    """Publish `loads`, which loads two rows into a folder."""
    with NamedTemporaryFile() as file:
        file.write(b"id\n1\n2\n")
        file.flush()
        platform.services.upload(Path(file.name), "pond/raw/loads.csv")
    platform.publish({"loads/etl.yaml": LOADS}, "loads")


def go(platform: ClusterPlatform, word: str) -> None:
    """Give the word."""
    with NamedTemporaryFile() as file:
        file.write(b"go")
        file.flush()
        platform.services.upload(Path(file.name), f"pond/words/{word}")


def clear(platform: ClusterPlatform, run: DagRun) -> None:
    """Clear the training, as a person does in the UI."""
    body = {"dry_run": False, "dag_run_id": run.run_id, "task_ids": ["train"], "only_failed": False}
    platform.api.post(f"/dags/{run.dag_id}/clearTaskInstances", {**body, "reset_dag_runs": True})


def mark_failed(platform: ClusterPlatform, run: DagRun) -> None:
    """Mark the training as failed, as a person does in the UI."""
    path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/train"
    platform.api.patch(path, {"new_state": "failed"})


def pods_of(platform: ClusterPlatform, run: DagRun) -> list[SeenPod]:
    """Return the pods that trained in a DAG run."""
    return [pod for pod in platform.pods.others() if run.run_id in pod.annotations.values()]


def mlflow_runs(platform: ClusterPlatform, run: DagRun) -> list[dict[str, Any]]:
    """Return the MLflow runs of a DAG run."""
    api = f"{platform.services.mlflow_url}/api/2.0/mlflow"
    answer = httpx.get(f"{api}/experiments/get-by-name", params={"experiment_name": run.dag_id}, timeout=30)
    experiment = answer.json()["experiment"]["experiment_id"]
    condition = f"tags.`mlplatform.airflow.run_id` = '{run.run_id}'"
    found = httpx.post(f"{api}/runs/search", json={"experiment_ids": [experiment], "filter": condition}, timeout=30)
    return list(found.json().get("runs", ()))


def trained(platform: ClusterPlatform, run: DagRun) -> None:
    """Make sure that a run ended with one MLflow run, finished and with its metric."""
    (only,) = mlflow_runs(platform, run)
    assert only["info"]["status"] == "FINISHED"
    assert {metric["key"] for metric in only["data"]["metrics"]} == {"score"}
    assert platform.api.xcom(run, "train")["run_id"] == only["info"]["run_id"]
