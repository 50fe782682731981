"""How an Airflow connection becomes address, credentials, links and the environment of a child process."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_mlplatform.clients.mlflow import Endpoint, ModelVersion, Run
from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.hooks.mlflow import MlflowHook


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(**connection: Any) -> MlflowHook:
        monkeypatch.setenv("AIRFLOW_CONN_TRACKING", json.dumps({"conn_type": "mlflow"} | connection))
        return MlflowHook("tracking")

    return make


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        ({"host": "mlflow"}, "http://mlflow"),
        ({"host": "mlflow", "port": 5000}, "http://mlflow:5000"),
        ({"host": "mlflow.example.org", "schema": "https"}, "https://mlflow.example.org"),
        ({"host": "https://mlflow.example.org/tracking/"}, "https://mlflow.example.org/tracking"),
        ({"host": "http://mlflow:80", "port": 5000}, "http://mlflow:80"),
        ({"host": "http://[::1]", "port": 5000}, "http://[::1]:5000"),
        ({"host": "http://[::1]:80", "port": 5000}, "http://[::1]:80"),
        ({"host": "mlflow/base", "port": 5000}, "http://mlflow:5000/base"),
    ],
)
def test_address(hook: Any, connection: dict[str, Any], url: str) -> None:
    assert hook(**connection).endpoint().url == url


@pytest.mark.parametrize(
    ("connection", "words"), [({}, "names no host"), ({"host": "sqlite:///mlflow.db"}, "no address")]
)
def test_no_address(hook: Any, connection: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        hook(**connection).endpoint()


def test_connection_test_explains_itself(hook: Any) -> None:
    assert hook(host="http://127.0.0.1:1").test_connection()[0] is False
    assert "does not answer" in hook(host="http://127.0.0.1:1").test_connection()[1]
    assert "names no host" in hook().test_connection()[1]


@pytest.mark.parametrize(
    ("connection", "environment"),
    [
        ({}, {}),
        (
            {"login": "ann", "password": "s3cret"},
            {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "s3cret"},
        ),
        ({"login": "ann", "extra": {"token": "t0ken"}}, {"MLFLOW_TRACKING_TOKEN": "t0ken"}),
        ({"extra": {"verify": False}}, {"MLFLOW_TRACKING_INSECURE_TLS": "true"}),
        ({"extra": {"verify": "False"}}, {"MLFLOW_TRACKING_INSECURE_TLS": "true"}),
        ({"extra": {"verify": "/etc/ca.pem"}}, {"MLFLOW_TRACKING_SERVER_CERT_PATH": "/etc/ca.pem"}),
        ({"extra": {"verify": True}}, {}),
    ],
)
def test_environment_of_a_child(hook: Any, connection: dict[str, Any], environment: dict[str, str]) -> None:
    made = hook(host="http://mlflow:5000", **connection)
    assert made.environment() == {"MLFLOW_TRACKING_URI": "http://mlflow:5000"} | environment


def test_secrets_are_not_shown(hook: Any) -> None:
    made = hook(host="mlflow", login="ann", password="s3cret", extra={"token": "t0ken"})
    shown = repr(made.endpoint()) + repr(made.client())
    assert "s3cret" not in shown
    assert "t0ken" not in shown


def test_links_lead_where_people_open_mlflow(hook: Any) -> None:
    run = Run("r1", "7", "", "RUNNING", None, None, "")
    version = ModelVersion("wine / red", 3, "r1", "", "", datetime.now(UTC))
    inside = hook(host="http://mlflow:5000/")
    assert inside.run_url(run) == "http://mlflow:5000/#/experiments/7/runs/r1"
    outside = hook(host="http://mlflow:5000", extra={"ui_url": "https://mlflow.example.org/"})
    assert outside.version_url(version) == "https://mlflow.example.org/#/models/wine%20%2F%20red/versions/3"


async def test_async_client(hook: Any) -> None:
    client = await hook(host="mlflow", port=5000).async_client()
    assert client.endpoint == Endpoint("http://mlflow:5000")
    await client.close()


def test_the_form_describes_itself() -> None:
    form = MlflowHook.get_ui_field_behaviour()
    assert set(form) == {"hidden_fields", "relabeling", "placeholders"}
    json.loads(form["placeholders"]["extra"])


async def test_a_connection_that_is_not_there_is_a_lasting_mistake() -> None:
    with pytest.raises(ConfigurationError, match="no Airflow connection 'nowhere'"):
        MlflowHook("nowhere").endpoint()
    with pytest.raises(ConfigurationError, match="no Airflow connection 'nowhere'"):
        await MlflowHook("nowhere").async_client()


def test_default_connection() -> None:
    assert MlflowHook().mlflow_conn_id == "mlflow_default"
