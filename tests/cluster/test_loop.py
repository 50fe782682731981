"""From raw files to a registered challenger on Kubernetes, under the shipped roles, with Pod Security `restricted`."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from airflow_mlplatform.demo.airflow_api import DagRun
from tests.cluster.platform import ClusterPlatform
from tests.cluster.wine import publish_wine

TRAININGS = 6


@pytest.fixture(scope="module")
def run(platform: ClusterPlatform) -> DagRun:
    """The training that the data has started by itself."""
    publish_wine(platform)
    platform.succeed(platform.run_number("wine-etl", 1))
    return platform.succeed(platform.run_number("wine-training", 1))


def mlflow(platform: ClusterPlatform, path: str, **params: str) -> dict[str, Any]:
    """Ask MLflow."""
    answer = httpx.get(f"{platform.services.mlflow_url}/api/2.0/mlflow/{path}", params=params, timeout=30)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def test_new_data_started_it(run: DagRun) -> None:
    assert run.run_type == "asset_triggered"


def test_the_best_one_is_the_challenger(platform: ClusterPlatform, run: DagRun) -> None:
    version = mlflow(platform, "registered-models/alias", name="wine", alias="challenger")["model_version"]
    metrics = mlflow(platform, "runs/get", run_id=version["run_id"])["run"]["data"]["metrics"]
    assert {"cv_log_loss", "accuracy", "log_loss"} <= {metric["key"] for metric in metrics}
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert tags["mlplatform.data.uri"].startswith("s3://pond/wine/")


def test_its_artifacts_lie_on_s3(platform: ClusterPlatform, run: DagRun) -> None:
    stored = platform.services.objects("mlflow")
    assert len([key for key in stored if key.endswith("/MLmodel")]) >= TRAININGS


def test_each_training_was_one_run_and_one_pod(platform: ClusterPlatform, run: DagRun) -> None:
    experiment = mlflow(platform, "experiments/get-by-name", experiment_name="wine")["experiment"]
    body = {"experiment_ids": [experiment["experiment_id"]]}
    answer = httpx.post(f"{platform.services.mlflow_url}/api/2.0/mlflow/runs/search", json=body, timeout=30)
    assert len([found for found in answer.json()["runs"] if tagged(found, run)]) == TRAININGS
    pods = [pod for pod in platform.pods.others() if run.run_id in pod.annotations.values()]
    assert len(pods) == TRAININGS
    platform.pods.wait_until_deleted(pods)


def tagged(mlflow_run: dict[str, Any], run: DagRun) -> bool:
    """Whether an MLflow run bears the id of an Airflow run."""
    return run.run_id in {tag["value"] for tag in mlflow_run["data"]["tags"]}


def test_no_pod_of_a_task_had_a_token_of_kubernetes(platform: ClusterPlatform, run: DagRun) -> None:
    tasks = [pod for pod in platform.pods.pods() if "dag_id" in pod.last["metadata"]["labels"]]
    assert tasks
    for pod in tasks:
        assert pod.last["spec"]["automountServiceAccountToken"] is False, pod.name
        assert not [volume for volume in pod.last["spec"].get("volumes", ()) if "projected" in volume], pod.name
