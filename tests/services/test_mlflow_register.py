"""`MlflowRegisterOperator` against a real registry: one run, one version, however often it is tried."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from airflow_mlplatform.clients.mlflow import Endpoint, MlflowClient, Run
from tests.services.operator_process import OperatorProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.mlflow_server import MlflowServer

pytestmark = pytest.mark.slow


class Registration(OperatorProcess):
    """A register task of a run with a logged model that has no files."""

    def __init__(self, folder: Path, server: MlflowServer) -> None:
        self.client = MlflowClient(Endpoint(server.url))
        self.server = server
        self.name = f"wine {uuid.uuid4()}"
        tags = {
            "mlplatform.data.uri": "s3://pond/wine/1",
            "mlplatform.code_version": "sha256:abc",
            "mlplatform.key": "private",
            "mlplatform.airflow.task_id": "train",
        }
        self.mlflow_run = self.client.create_run(self.client.get_or_create_experiment(self.name), tags)
        run = {"run_id": self.mlflow_run.run_id, "selected_by": {"metric": "acc", "value": 0.9}}
        arguments = {"run": run, "model": self.name}
        operator = "airflow_mlplatform.operators.mlflow_register:MlflowRegisterOperator"
        super().__init__(operator, arguments, folder, server.environment | {"AIRFLOW_HOME": str(folder)})

    def log_model(self, status: str = "LOGGED_MODEL_READY") -> str:
        """Do what `log_model` does, without a model."""
        run: Run = self.mlflow_run
        made = self._call("POST", "logged-models", experiment_id=run.experiment_id, name="m", source_run_id=run.run_id)
        model_id = str(made["model"]["info"]["model_id"])
        self._call("POST", "runs/outputs", run_id=run.run_id, models=[{"model_id": model_id, "step": 0}])
        if status != "LOGGED_MODEL_PENDING":
            self._call("PATCH", f"logged-models/{model_id}", model_id=model_id, status=status)
        return model_id

    def _call(self, method: str, path: str, **body: Any) -> Any:
        answer = httpx.request(method, f"{self.server.url}/api/2.0/mlflow/{path}", json=body)
        answer.raise_for_status()
        return answer.json()


@pytest.fixture
def task(tmp_path: Path, mlflow_server: MlflowServer) -> Iterator[Registration]:
    task = Registration(tmp_path, mlflow_server)
    yield task
    task.client.close()


def test_a_version_with_alias_and_tags(task: Registration) -> None:
    model_id = task.log_model()
    result = task.run()
    assert result == {
        "name": task.name,
        "version": 1,
        "alias": "challenger",
        "run_id": task.mlflow_run.run_id,
        "model_uri": f"models:/{task.name}/1",
    }
    version = task.client.get_version_by_alias(task.name, "challenger")
    assert version is not None
    assert (version.version, version.model_id, version.run_id) == (1, model_id, task.mlflow_run.run_id)
    assert version.tags["mlplatform.data.uri"] == "s3://pond/wine/1"
    assert version.tags["mlplatform.code_version"] == "sha256:abc"
    assert version.tags["mlplatform.metric.acc"] == "0.9"
    assert version.tags["mlplatform.airflow.dag_id"] == "a_dag"
    assert version.tags["mlplatform.airflow.task_id"] == "train"
    assert "mlplatform.key" not in version.tags
    url = json.loads((task.folder / "xcom-model_version_url.json").read_text())
    assert url.endswith("/versions/1")


def test_tried_again_it_stays_one_version(task: Registration) -> None:
    task.log_model()
    first = task.run()
    # As if the first try had died between making the version and moving the alias.
    task.client.delete_alias(task.name, "challenger")
    assert task.run() == first
    assert len(task.client.search_model_versions(task.name)) == 1
    assert task.client.get_version_by_alias(task.name, "challenger") is not None


def test_a_later_run_takes_the_alias(task: Registration, tmp_path: Path, mlflow_server: MlflowServer) -> None:
    task.log_model()
    task.run()
    (tmp_path / "later").mkdir()
    later = Registration(tmp_path / "later", mlflow_server)
    later.arguments["model"] = task.name
    later.log_model()
    assert later.run()["version"] == 2
    challenger = task.client.get_version_by_alias(task.name, "challenger")
    assert challenger is not None
    assert challenger.version == 2


@pytest.mark.parametrize("pending", [True, False])
def test_a_run_without_a_complete_model(task: Registration, pending: bool) -> None:
    if pending:
        task.log_model("LOGGED_MODEL_PENDING")
    failure = task.run()
    assert failure["kind"] == "AirflowFailException"
    assert "logged no model" in failure["error"]
    assert "log_model" in failure["error"]
    assert task.client.get_version_by_alias(task.name, "challenger") is None


def test_a_run_that_is_not_there(task: Registration) -> None:
    task.arguments["run"] = {"run_id": "0" * 32}
    assert task.run()["kind"] == "AirflowFailException"


def test_mlflow_away_is_retried(task: Registration) -> None:
    task.environment["AIRFLOW_CONN_MLFLOW_DEFAULT"] = '{"conn_type": "mlflow", "host": "http://127.0.0.1:1"}'
    assert task.run()["kind"] == "ServiceUnavailable"
