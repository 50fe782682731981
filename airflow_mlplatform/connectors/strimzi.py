"""Connectors as KafkaConnector resources of Strimzi, and back.

The resource: https://strimzi.io/docs/operators/latest/configuring.html#type-KafkaConnector-reference
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from airflow_mlplatform.clients.kafka_connect_entities import Connector, ConnectorStatus, InitialState, Plugin
from airflow_mlplatform.clients.strimzi_requests import RESTART
from airflow_mlplatform.connectors.change import is_weather
from airflow_mlplatform.connectors.config import as_text
from airflow_mlplatform.exceptions import ConfigurationError

__all__ = ["CLASS", "CLUSTER_LABEL", "StrimziCluster", "check_class", "connector_of", "manifest", "plugins_of"]

Resource = Mapping[str, Any]

API_VERSION = "kafka.strimzi.io/v1"
CLUSTER_LABEL = "strimzi.io/cluster"
# Strimzi drops these from `config` without a word.
CLASS, TASKS, VERSION = "connector.class", "tasks.max", "connector.plugin.version"
USES_RESOURCES = "strimzi.io/use-connector-resources"
# Kafka Connect is away, or busy: no verdict on the connector.
_WEATHER = re.compile(r"ConnectException|TimeoutException|RuntimeException|returned (409|5\d\d)")
# What Strimzi says again and again until somebody corrects the resource.
_MISTAKE = re.compile(r"NoSuchResourceException|InvalidResourceException|IllegalArgumentException|returned 4(00|22)")
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
        waiting = RESTART in (resource["metadata"].get("annotations") or {})
        warning = (conditions.get("Warning") or {}).get("message", "")
        return ConnectorStatus("RESTARTING", trace=warning) if waiting else ConnectorStatus.parse(told)
    return _without_status("ReconciliationPaused" if paused else "", conditions.get("NotReady"))


def _without_status(paused: str, refusal: Mapping[str, Any] | None) -> ConnectorStatus | None:
    if paused:
        told = "Strimzi leaves this connector alone; remove its annotation strimzi.io/pause-reconciliation"
        return ConnectorStatus("REFUSED", trace=told)
    if refusal is None:
        return None
    said = f"{refusal.get('reason', '')}: {refusal.get('message') or 'no message'}"
    return ConnectorStatus(_verdict(said), trace=said)


def _verdict(said: str) -> str:
    if _WEATHER.search(_short(said)):
        return "UNASSIGNED"
    # A plugin that looks at its database while it validates blames the config for the weather.
    return "REFUSED" if _MISTAKE.search(said) and not is_weather(said) else "FAILED"


def _short(said: str) -> str:
    # Inside of a refused config there may be anything, the names of exceptions too.
    return said.split("returned 4", 1)[0] + (" returned 409" if "returned 409" in said else "")


def plugins_of(kafka_connect: Resource | None, cluster: StrimziCluster) -> tuple[Plugin, ...]:
    """Return the connector classes that a KafkaConnect resource tells of; none while that is not known.

    :raises ConfigurationError: if there is no such resource, or it does not use connector resources.
    """
    where = f"KafkaConnect {cluster.namespace}/{cluster.name}"
    if kafka_connect is None:
        raise ConfigurationError(f"there is no {where}; correct strimzi, or make it")
    metadata, status = kafka_connect["metadata"], kafka_connect.get("status") or {}
    if (metadata.get("annotations") or {}).get(USES_RESOURCES) != "true":
        raise ConfigurationError(
            f'{where} does not use connector resources; annotate it {USES_RESOURCES}: "true" (Strimzi then deletes '
            "connectors that were made over REST), or leave strimzi out"
        )
    ready = any((one["type"], one["status"]) == ("Ready", "True") for one in status.get("conditions") or ())
    if not ready or status.get("observedGeneration") != metadata.get("generation"):
        return ()
    found = (Plugin.parse(one) for one in status.get("connectorPlugins") or ())
    return tuple(sorted(found, key=lambda plugin: plugin.name))


def check_class(wanted: str, plugins: Sequence[Plugin], cluster: StrimziCluster) -> None:
    """See that a cluster has a plugin, as far as its plugins are known.

    :raises ConfigurationError: if it does not; the message lists those that exist.
    """
    if plugins and not any(plugin.answers_to(wanted) for plugin in plugins):
        raise ConfigurationError(
            f"KafkaConnect {cluster.namespace}/{cluster.name} has no plugin {wanted!r}; add it to its image, or "
            f"correct connector.class to one of these: {', '.join(map(str, plugins))}"
        )
