"""Where a real MLflow says that models lie: what a storage initializer is then given."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from airflow_mlplatform.clients.http import drive
from airflow_mlplatform.clients.mlflow import Endpoint, MlflowClient
from airflow_mlplatform.exceptions import ConfigurationError, NotFound
from airflow_mlplatform.serving.model import ServableModel, find_model
from tests.parts import require
from tests.services.mlflow_server import MlflowServer

STORE = "s3://bucket/ml"


@dataclass
class S3MlflowServer(MlflowServer):
    """A server that leaves artifacts to S3, and keeps out of the way of those who fetch them."""

    def _command(self) -> list[str]:
        command = super()._command()
        place = command.index("--artifacts-destination")
        return [*command[:place], "--no-serve-artifacts", "--default-artifact-root", STORE, *command[place + 2 :]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    require(importlib.util.find_spec("mlflow"), "MLflow is missing; install it: uv sync --extra local")
    server = S3MlflowServer(tmp_path_factory.mktemp("mlflow-s3")).start()
    yield server
    server.stop()


@dataclass(frozen=True)
class Logged:
    """A model as `log_model(name="model")` leaves it, apart from its files.

    :param uri: its folder.
    """

    model_id: str
    run_id: str
    run_uri: str
    uri: str


@pytest.fixture(scope="module")
def logged(server: MlflowServer) -> Logged:
    run = asked(server, "runs/create", experiment_id="0")["run"]["info"]
    model = asked(server, "logged-models", experiment_id="0", name="model", source_run_id=run["run_id"])["model"][
        "info"
    ]
    outputs = [{"model_id": model["model_id"], "step": 0}]
    asked(server, "runs/outputs", run_id=run["run_id"], models=outputs)
    ready = {"model_id": model["model_id"], "status": "LOGGED_MODEL_READY"}
    httpx.patch(f"{server.url}/api/2.0/mlflow/logged-models/{model['model_id']}", json=ready).raise_for_status()
    return Logged(model["model_id"], run["run_id"], run["artifact_uri"], model["artifact_uri"])


def asked(server: MlflowServer, path: str, **body: Any) -> Any:
    return httpx.post(f"{server.url}/api/2.0/mlflow/{path}", json=body).raise_for_status().json()


def found(server: MlflowServer, value: Any) -> ServableModel:
    with MlflowClient(Endpoint(server.url)) as client:
        return drive(find_model(value), client.http)


def register(server: MlflowServer, name: str, source: str, run_id: str) -> int:
    with MlflowClient(Endpoint(server.url)) as client:
        client.get_or_create_registered_model(name)
        version = client.create_model_version(name, source, run_id).version
        client.set_alias(name, "champion", version)
        return version


def test_a_version_of_a_logged_model_lies_in_that_models_folder(server: MlflowServer, logged: Logged) -> None:
    version = register(server, "logged", f"models:/{logged.model_id}", logged.run_id)
    assert logged.uri == f"{STORE}/0/models/{logged.model_id}/artifacts"
    expected = ServableModel(name="logged", version=str(version), run_id=logged.run_id, uri=logged.uri)
    assert found(server, {"name": "logged", "version": version}) == expected
    assert found(server, f"models:/logged/{version}") == expected
    assert found(server, "models:/logged@champion") == expected


def test_the_model_of_a_run_is_not_among_the_runs_artifacts(server: MlflowServer, logged: Logged) -> None:
    expected = ServableModel(run_id=logged.run_id, uri=logged.uri)
    assert found(server, f"runs:/{logged.run_id}/model") == expected
    assert found(server, f"models:/{logged.model_id}") == expected
    other = found(server, f"runs:/{logged.run_id}/files/model")
    assert other.uri == f"{logged.run_uri}/files/model"


def test_a_version_registered_over_rest_by_its_run(server: MlflowServer, logged: Logged) -> None:
    register(server, "over-rest", f"runs:/{logged.run_id}/model", logged.run_id)
    assert found(server, "models:/over-rest@champion").uri == logged.uri


def test_a_version_registered_with_a_folder(server: MlflowServer, logged: Logged) -> None:
    register(server, "folder", f"{logged.run_uri}/model", logged.run_id)
    assert found(server, "models:/folder@champion").uri == f"{logged.run_uri}/model"


def test_what_is_not_there(server: MlflowServer) -> None:
    for value in ("models:/nosuch/1", "models:/nosuch@champion", "models:/m-nosuch", "runs:/nosuch/model"):
        with pytest.raises(NotFound):
            found(server, value)


def test_artifacts_that_only_the_server_can_read_are_refused(mlflow_server: MlflowServer) -> None:
    run = asked(mlflow_server, "runs/create", experiment_id="0")["run"]["info"]
    register(mlflow_server, "proxied", f"{run['artifact_uri']}/model", run["run_id"])
    with pytest.raises(ConfigurationError, match=r"mlflow-artifacts:/.*only the MLflow server can read there"):
        found(mlflow_server, "models:/proxied@champion")
