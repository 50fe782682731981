"""What recorded KafkaConnector resources mean. The recordings, shortened, are those of a real Strimzi 1.2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_mlplatform.clients.kafka_connect_entities import Connector
from airflow_mlplatform.connectors.progress import Progress
from airflow_mlplatform.connectors.strimzi import StrimziCluster, connector_of, manifest
from airflow_mlplatform.exceptions import ConfigurationError

RECORDINGS = Path(__file__).parent / "strimzi"
CLUSTER = StrimziCluster("kafka", "my-connect")


def recorded(name: str) -> Connector:
    return connector_of(json.loads((RECORDINGS / f"{name}.json").read_text()))


@pytest.mark.parametrize(
    ("name", "state", "verdict"),
    [
        ("added", "running", "wait"),
        ("ready", "running", "settled"),
        ("ready-no-tasks", "running", "wait"),
        ("ready-not-observed", "running", "wait"),
        ("ready-restarting", "running", "wait"),
        ("tasks-failed", "running", "failed"),
        ("class-refused", "running", "failed"),
        ("config-refused", "running", "failed"),
        ("no-cluster", "running", "failed"),
        ("reconciliation-paused", "running", "failed"),
        ("rest-down", "running", "wait"),
        ("no-replicas", "running", "wait"),
        ("pausing", "paused", "wait"),
        ("paused", "paused", "settled"),
        ("paused", "running", "wait"),
        ("stopped", "stopped", "settled"),
    ],
)
def test_verdicts(name: str, state: Any, verdict: str) -> None:
    assert Progress(state, settle=0, restarts=0).judge(recorded(name), 0) == verdict


def test_a_refusal_is_told_in_the_words_of_connect() -> None:
    status = recorded("config-refused").status
    assert status is not None
    assert "Invalid value notanumber for configuration batch.size" in status.traces[0]


def test_there_and_back() -> None:
    config = {
        "name": "src",
        "connector.class": "a.B",
        "tasks.max": "2",
        "file": "/x",
        "connector.plugin.version": "1.0",
    }
    resource = manifest("src", CLUSTER, config, "paused")
    assert resource["metadata"] == {"name": "src", "labels": {"strimzi.io/cluster": "my-connect"}}
    expected = {"class": "a.B", "tasksMax": 2, "version": "1.0", "state": "paused", "config": {"file": "/x"}}
    assert resource["spec"] == expected
    back = connector_of(resource)
    assert (back.config, back.wished) == (config, "paused")


@pytest.mark.parametrize(("name", "tasks"), [("Upper", "1"), ("a_b", "1"), ("ok", "many"), ("ok", "0")])
def test_what_a_resource_cannot_be(name: str, tasks: str) -> None:
    with pytest.raises(ConfigurationError):
        manifest(name, CLUSTER, {"connector.class": "a.B", "tasks.max": tasks}, "running")
