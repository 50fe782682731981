from __future__ import annotations

from typing import Any

import pytest

from airflow_mlplatform.clients.kafka_config import client_config
from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.hooks.kafka import KafkaHook


def test_values_become_text_and_what_is_of_consumers_goes() -> None:
    extra = {"bootstrap.servers": "a:1,b:2", "socket.timeout.ms": 100, "log.connection.close": False, "group.id": "x"}
    assert client_config(extra, "events") == {
        "bootstrap.servers": "a:1,b:2",
        "socket.timeout.ms": "100",
        "log.connection.close": "false",
    }


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({}, "connection 'events' names no brokers"),
        ({"bootstrap.servers": "a:1", "error_cb": {"x": 1}}, "error_cb in its extra is no plain value"),
    ],
)
def test_what_is_missing_is_told(extra: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        client_config(extra, "events")


def test_the_hook_reads_the_connections_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_EVENTS", '{"conn_type": "kafka", "extra": {"bootstrap.servers": "a:1"}}')
    assert KafkaHook("events").get_conn() == {"bootstrap.servers": "a:1"}
    with pytest.raises(ConfigurationError, match="no Airflow connection 'nowhere'"):
        KafkaHook("nowhere").get_conn()
