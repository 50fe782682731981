"""What recorded KafkaConnector resources mean. The recordings, shortened, are those of a real Strimzi 1.2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_mlplatform.clients.kafka_connect_entities import Connector
from airflow_mlplatform.connectors.progress import Progress
from airflow_mlplatform.connectors.strimzi import StrimziCluster, check_class, connector_of, manifest, plugins_of
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
        ("class-refused", "running", "refused"),
        ("config-refused", "running", "refused"),
        ("database-away", "running", "failed"),
        ("restart-asked", "running", "wait"),
        ("no-cluster", "running", "refused"),
        ("reconciliation-paused", "running", "refused"),
        ("offsets-annotation", "running", "refused"),
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


def kafka_connect(**status: Any) -> dict[str, Any]:
    told = json.loads((RECORDINGS / "kafka-connect.json").read_text())
    return told | {"status": told["status"] | status}


def test_plugins_are_those_that_the_cluster_tells_of() -> None:
    plugins = plugins_of(kafka_connect(), CLUSTER)
    assert [(plugin.name.rpartition(".")[2], plugin.kind) for plugin in plugins] == [
        ("PostgresConnector", "source"),
        ("FileStreamSinkConnector", "sink"),
        ("FileStreamSourceConnector", "source"),
    ]
    check_class("FileStreamSink", plugins, CLUSTER)
    with pytest.raises(ConfigurationError, match=r"no plugin 'FileStream'.*PostgresConnector 3.6.0.Final, org"):
        check_class("FileStream", plugins, CLUSTER)


@pytest.mark.parametrize("status", [{"observedGeneration": 1}, {"conditions": []}, {"connectorPlugins": None}])
def test_nothing_is_refused_while_plugins_are_not_known(status: dict[str, Any]) -> None:
    plugins = plugins_of(kafka_connect(**status), CLUSTER)
    assert plugins == ()
    check_class("whatever", plugins, CLUSTER)


def test_a_cluster_must_be_there_and_use_resources() -> None:
    with pytest.raises(ConfigurationError, match="there is no KafkaConnect kafka/my-connect"):
        plugins_of(None, CLUSTER)
    with pytest.raises(ConfigurationError, match="annotate it strimzi.io/use-connector-resources"):
        plugins_of({"metadata": {}, "status": {}}, CLUSTER)
