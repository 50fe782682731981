"""One connection says the same to every client."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.hooks.kafka import KafkaHook
from airflow_mlplatform.steps.kafka.config import client_config, consumer_config
from airflow_mlplatform.steps.login import Login


def test_values_become_text_and_what_is_not_for_all_clients_goes() -> None:
    extra = {
        "bootstrap.servers": "a:1,b:2", "socket.timeout.ms": 100, "log.connection.close": False, "group.id": "x",
        "error_cb": "os.system",
    }  # fmt: skip
    assert client_config(Login("events", "kafka", extra=extra)) == {
        "bootstrap.servers": "a:1,b:2",
        "socket.timeout.ms": "100",
        "log.connection.close": "false",
    }


def test_login_and_password_are_those_of_sasl() -> None:
    extra = {"bootstrap.servers": "a:1", "sasl.username": "own"}
    config = client_config(Login("events", "kafka", user="user", password="s3cret", extra=extra))
    assert (config["sasl.username"], config["sasl.password"]) == ("own", "s3cret")


@pytest.mark.parametrize(
    ("kind", "extra", "message"),
    [
        ("http", {"bootstrap.servers": "a:1"}, "connection 'events' is of type 'http'; one of type kafka is needed"),
        ("kafka", {}, "connection 'events' names no brokers"),
        ("kafka", {"bootstrap.servers": "a:1", "x": {"y": 1}}, "x in its extra is no plain value"),
    ],
)
def test_what_is_wrong_is_told(kind: str, extra: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        client_config(Login("events", kind, extra=extra))


def test_a_connection_tunes_the_consumer_but_not_what_exactly_once_rests_on() -> None:
    config = consumer_config({"isolation.level": "read_uncommitted", "fetch.max.bytes": 5})
    assert (config["isolation.level"], config["enable.auto.commit"]) == ("read_committed", False)
    assert config["fetch.max.bytes"] == 5


def test_the_hook_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = '{"conn_type": "kafka", "login": "u", "password": "p", "extra": {"bootstrap.servers": "a:1"}}'
    monkeypatch.setenv("AIRFLOW_CONN_EVENTS", connection)
    wanted = {"bootstrap.servers": "a:1", "sasl.username": "u", "sasl.password": "p"}
    assert KafkaHook("events").get_conn() == wanted
    with pytest.raises(ConfigurationError, match="no Airflow connection 'nowhere'"):
        KafkaHook("nowhere").get_conn()
