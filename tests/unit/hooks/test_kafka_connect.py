"""How an Airflow connection becomes the addresses of workers and who we are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_mlplatform.clients.kafka_connect import ClientCertificate
from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.hooks.kafka_connect import KafkaConnectHook


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(**connection: Any) -> KafkaConnectHook:
        monkeypatch.setenv("AIRFLOW_CONN_WORKERS", json.dumps({"conn_type": "kafka_connect"} | connection))
        return KafkaConnectHook("workers")

    return make


@pytest.mark.parametrize(
    ("connection", "urls"),
    [
        ({"host": "one"}, ["http://one:8083"]),
        ({"host": "one, two:84,"}, ["http://one:8083", "http://two:84"]),
        ({"host": "one,two", "port": 80, "schema": "https"}, ["https://one:80", "https://two:80"]),
        ({"host": "https://one/kafka/,two/other"}, ["https://one/kafka", "http://two:8083/other"]),
        ({"host": "one,two/own", "extra": {"path": "/connect/"}}, ["http://one:8083/connect", "http://two:8083/own"]),
        ({"host": "http://[::1]", "port": 8083}, ["http://[::1]:8083"]),
        ({"host": "http://one:80", "port": 8083}, ["http://one:80"]),
    ],
)
def test_addresses(hook: Any, connection: dict[str, Any], urls: list[str]) -> None:
    assert list(hook(**connection).endpoint().urls) == urls


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("", "names no host"),
        (" , ", "names no host"),
        ("ftp://x", "no address"),
        ("one,http://ann:s3cret@two", "write it in login and password"),
    ],
)
def test_no_address(hook: Any, host: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as error:
        hook(host=host).endpoint()
    assert "s3cret" not in str(error.value)


def test_who_we_are(hook: Any) -> None:
    extra = {"token": "t0ken", "verify": "false", "certificate": "/c.pem", "key": "/k.pem", "key_password": "pw"}
    found = hook(host="one", login="ann", password="s3cret", extra=extra).endpoint()
    worker = found.workers[0]
    assert (worker.login, worker.password, worker.token, worker.verify) == ("ann", "s3cret", "t0ken", False)
    assert found.certificate == ClientCertificate("/c.pem", "/k.pem", "pw")
    assert hook(host="one", extra={"verify": None}).endpoint().workers[0].verify is True


def test_where_people_look(hook: Any) -> None:
    assert hook(host="one,two").connector_url("a b") == "http://one:8083/connectors/a%20b"
    outside = hook(host="one", extra={"ui_url": "https://ui/connectors/{name}?tab=1"})
    assert outside.connector_url("a b") == "https://ui/connectors/a%20b?tab=1"


async def test_a_connection_that_is_not_there_is_a_lasting_mistake() -> None:
    with pytest.raises(ConfigurationError, match="no Airflow connection 'nowhere'"):
        KafkaConnectHook("nowhere").endpoint()
    with pytest.raises(ConfigurationError, match="no Airflow connection 'nowhere'"):
        await KafkaConnectHook("nowhere").async_client()


def test_the_connection_test_explains_itself(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_mlplatform.hooks.kafka_connect.TEST_PATIENCE", 0.0)
    assert "does not answer" in hook(host="http://127.0.0.1:1").test_connection()[1]
    assert hook().test_connection()[0] is False


def test_airflow_knows_the_form() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    # All that follows would import the hooks of all providers.
    manager.initialize_providers_list()
    manager._load_ui_metadata()
    fields = {name for name in manager._connection_form_widgets if name.startswith("extra__kafka_connect__")}
    assert "extra__kafka_connect__key_password" in fields
    assert manager._connection_form_widgets["extra__kafka_connect__token"].is_sensitive
    assert manager._field_behaviours["kafka_connect"]["relabeling"]["host"].startswith("Workers")
