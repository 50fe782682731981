"""Where the connector of a task is kept: by Kafka Connect's REST API, or as a resource of Strimzi."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from airflow_mlplatform.connectors.rest import RestConnectors
from airflow_mlplatform.hooks.kafka_connect import KafkaConnectHook
from airflow_mlplatform.hooks.strimzi import StrimziConnectors
from airflow_mlplatform.links import KafkaConnectorLink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from airflow_mlplatform.connectors.backend import Connectors
    from airflow_mlplatform.connectors.strimzi import StrimziCluster

__all__ = ["open_connectors"]


class ConnectorTask(Protocol):
    """A task about one connector."""

    name: str
    kafka_connect_conn_id: str
    strimzi: StrimziCluster | None


@contextmanager
def open_connectors(task: ConnectorTask, context: Context) -> Iterator[Connectors]:
    """Reach the connectors of a task's Connect cluster; leave the link to its own one, where it has a page."""
    if task.strimzi is not None:
        yield StrimziConnectors(task.strimzi)
        return
    hook = KafkaConnectHook(task.kafka_connect_conn_id)
    context["ti"].xcom_push(key=KafkaConnectorLink.key, value=hook.connector_url(task.name))
    with hook.client() as client:
        yield RestConnectors(client)
