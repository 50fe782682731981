"""Which model is meant and where it lies.

The answers are those of MLflow 3.17; tests/services/test_servable_model.py asks the real one.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from airflow_mlplatform.clients.http import drive
from airflow_mlplatform.clients.mlflow import Endpoint, MlflowClient
from airflow_mlplatform.exceptions import ConfigurationError, NotFound, ServiceRefused
from airflow_mlplatform.serving.model import ServableModel, find_model

FOLDER = "s3://bucket/ml/0/models/m-1/artifacts"
RUN_FOLDER = "s3://bucket/ml/0/r1/artifacts"
WINE = ServableModel(name="wine", version="3", run_id="r1", uri=FOLDER)


def mlflow(folder: str = FOLDER, **version: str) -> MlflowClient:
    """An MLflow with version 3 of `wine`, the champion, made of the logged model `m-1` (`model`) of the run `r1`."""
    found = {
        "name": "wine",
        "version": "3",
        "run_id": "r1",
        "creation_timestamp": 1,
        "source": "models:/m-1",
        **version,
    }
    logged = {"model_id": "m-1", "name": "model", "source_run_id": "r1", "status": "LOGGED_MODEL_READY"}
    info = {"run_id": "r1", "experiment_id": "0", "status": "FINISHED", "artifact_uri": RUN_FOLDER}
    answers: dict[str, Any] = {
        "model-versions/get?name=wine&version=3": {"model_version": found},
        "model-versions/get-download-uri?name=wine&version=3": {"artifact_uri": folder},
        "registered-models/get?name=wine": {
            "registered_model": {"name": "wine", "aliases": [{"alias": "champion", "version": "3"}]}
        },
        "logged-models/m-1?": {"model": {"info": {**logged, "artifact_uri": FOLDER}}},
        "logged-models/m-2?": {"model": {"info": {**logged, "status": "LOGGED_MODEL_PENDING"}}},
        "runs/get?run_id=r1": {"run": {"info": info, "outputs": {"model_outputs": [{"model_id": "m-1"}]}}},
    }

    def answer(request: httpx.Request) -> httpx.Response:
        asked = f"{request.url.path.removeprefix('/api/2.0/mlflow/')}?{request.url.query.decode()}"
        missing = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": asked}
        return httpx.Response(200, json=answers[asked]) if asked in answers else httpx.Response(404, json=missing)

    return MlflowClient(Endpoint("http://mlflow.test"), transport=httpx.MockTransport(answer))


def found(value: Any, client: MlflowClient | None = None) -> ServableModel:
    with client or mlflow() as opened:
        return drive(find_model(value), opened.http)


@pytest.mark.parametrize(
    "value",
    [
        {"name": "wine", "version": 3},
        {"name": "wine", "version": "3"},
        {"name": "wine", "alias": "champion"},
        {"promote": True, "candidate": {"name": "wine", "version": "3", "run_id": "r1"}, "champion": None},
        "models:/wine/3",
        " models:/wine@champion ",
    ],
)
def test_a_version_however_it_is_named(value: Any) -> None:
    assert found(value) == WINE


def test_a_model_that_a_run_logged() -> None:
    assert found("models:/m-1") == ServableModel(run_id="r1", uri=FOLDER)
    assert found("runs:/r1/model") == ServableModel(run_id="r1", uri=FOLDER)


def test_files_among_the_artifacts_of_a_run() -> None:
    assert found("runs:/r1/other/model") == ServableModel(run_id="r1", uri=f"{RUN_FOLDER}/other/model")


@pytest.mark.parametrize("uri", ["s3://models/wine/3", "gs://models/wine", "pvc://models/wine", "s3:models/wine"])
def test_a_folder_that_pods_reach(uri: str) -> None:
    assert found(uri + "/") == ServableModel(uri=uri)


def test_a_version_registered_by_another_client_than_mlflows() -> None:
    assert found("models:/wine/3", mlflow("runs:/r1/model")) == WINE
    assert found("models:/wine/3", mlflow("models:/m-1")) == WINE


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("mlflow-artifacts:/0/models/m-1/artifacts", r"only the MLflow server can read there; .*--no-serve-artifacts"),
        ("file:///mlruns/0/m-1", "a folder of one machine"),
        ("/mlruns/0/m-1", "a folder of one machine"),
        ("dbfs:/models/wine", "Databricks"),
    ],
)
def test_a_place_that_no_pod_can_read_is_refused_with_advice(folder: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"lies in {folder}, and its servers could not fetch it: .*{why}"):
        found({"name": "wine", "version": 3}, mlflow(folder))


@pytest.mark.parametrize(
    "value",
    [None, "", {}, {"name": "wine"}, {"candidate": None}, "models:/wine", "models:/wine/Production", 7, {"version": 3}],
)
def test_what_names_no_model_is_told_what_would(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"names no model; give .* models:/wine@champion"):
        found(value)


def test_a_run_alone_is_no_model() -> None:
    with pytest.raises(ConfigurationError, match="names a run but no model of it"):
        found("runs:/r1")


@pytest.mark.parametrize("value", [{"name": "wine", "version": 9}, "runs:/nosuch/model", "models:/m-9"])
def test_what_is_not_there(value: Any) -> None:
    with pytest.raises(NotFound):
        found(value)


def test_an_alias_that_nobody_bears() -> None:
    with pytest.raises(NotFound, match="bears the alias 'nosuch'; set it in MLflow"):
        found({"name": "wine", "alias": "nosuch"})


def test_what_is_not_complete() -> None:
    with pytest.raises(ServiceRefused, match="wine version 3 is FAILED_REGISTRATION .bucket full.; register it again"):
        found("models:/wine/3", mlflow(status="FAILED_REGISTRATION", status_message="bucket full"))
    with pytest.raises(ServiceRefused, match="m-2 is not complete"):
        found("models:/m-2")
