"""Connectors as KafkaConnector resources of Strimzi, and back.

The resource: https://strimzi.io/docs/operators/latest/configuring.html#type-KafkaConnector-reference
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from airflow_mlplatform.clients.kafka_connect_entities import Connector, ConnectorStatus, InitialState
from airflow_mlplatform.connectors.config import as_text
from airflow_mlplatform.exceptions import ConfigurationError

__all__ = ["StrimziCluster", "connector_of", "manifest"]

Resource = Mapping[str, Any]

API_VERSION = "kafka.strimzi.io/v1"
CLUSTER_LABEL = "strimzi.io/cluster"
# Strimzi drops these from `config` without a word.
CLASS, TASKS, VERSION = "connector.class", "tasks.max", "connector.plugin.version"
# Kafka Connect is away, or busy: no verdict on the connector.
_WEATHER = re.compile(r"ConnectException|TimeoutException|RuntimeException|returned (409|5\d\d)")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@dataclass(frozen=True)
class StrimziCluster:
    """A KafkaConnect cluster that Strimzi runs, whose connectors are resources.

    :param namespace: where the KafkaConnect resource is.
    :param name: its name.
    :param kubernetes_conn_id: Airflow connection (type kubernetes); that of the ``[mlplatform]`` section if empty.
    """

    namespace: str
    name: str
    kubernetes_conn_id: str = ""


def manifest(name: str, cluster: StrimziCluster, config: Mapping[str, str], state: InitialState) -> dict[str, Any]:
    """Return the resource of a connector.

    :raises ConfigurationError: for a name or number of tasks that a resource cannot have.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot name a resource of Kubernetes: small letters, digits, dots and dashes only; rename it"
        )
    apart = (CLASS, TASKS, VERSION, "name")
    spec: dict[str, Any] = {
        "class": config[CLASS],
        "state": state,
        "config": {key: value for key, value in config.items() if key not in apart},
    }
    if TASKS in config:
        spec["tasksMax"] = _tasks(name, config[TASKS])
    if VERSION in config:
        spec["version"] = config[VERSION]
    labels = {CLUSTER_LABEL: cluster.name}
    head = {"apiVersion": API_VERSION, "kind": "KafkaConnector", "metadata": {"name": name, "labels": labels}}
    return {**head, "spec": spec}


def _tasks(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigurationError(f"connector {name}: tasks.max is {text!r}; Strimzi takes a number from 1 on")
    return int(text)


def connector_of(resource: Resource) -> Connector:
    """Return what a resource, with its status, says of a connector."""
    spec = resource["spec"]
    config = as_text(spec.get("config") or {}) | {"name": resource["metadata"]["name"]}
    for key, value in ((CLASS, spec.get("class")), (TASKS, spec.get("tasksMax")), (VERSION, spec.get("version"))):
        if value is not None:
            config[key] = str(value)
    wished = cast("InitialState", spec.get("state") or "running")
    return Connector(resource["metadata"]["name"], config, _status(resource), wished)


def _status(resource: Resource) -> ConnectorStatus | None:
    """Return how a connector does; ``None`` while Strimzi has no opinion of the present generation."""
    status = resource.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or () if one.get("status") == "True"}
    paused = conditions.get("ReconciliationPaused")
    if paused is None and status.get("observedGeneration") != resource["metadata"].get("generation"):
        return None
    told = status.get("connectorStatus")
    if told and told.get("connector"):
        return ConnectorStatus.parse(told)
    return _without_status("ReconciliationPaused" if paused else "", conditions.get("NotReady"))


def _without_status(paused: str, refusal: Mapping[str, Any] | None) -> ConnectorStatus | None:
    if paused:
        return ConnectorStatus(
            "FAILED",
            trace="Strimzi leaves this connector alone; remove its annotation strimzi.io/pause-reconciliation",
        )
    if refusal is None:
        return None
    said = f"{refusal.get('reason', '')}: {refusal.get('message') or 'no message'}"
    return ConnectorStatus("UNASSIGNED" if _WEATHER.search(_short(said)) else "FAILED", trace=said)


def _short(said: str) -> str:
    # Inside of a refused config there may be anything, the names of exceptions too.
    return said.split("returned 4", 1)[0] + (" returned 409" if "returned 409" in said else "")
