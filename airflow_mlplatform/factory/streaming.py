"""``kind: streaming`` → a DAG: topics, sources, application, sinks; the other way round to take them down."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import DAG, TaskGroup, chain

from airflow_mlplatform.factory.dag import new_dag
from airflow_mlplatform.operators.kafka_connector import KafkaConnectorOperator
from airflow_mlplatform.operators.kafka_topics import KafkaTopicsOperator
from airflow_mlplatform.operators.stream_app import StreamAppOperator
from airflow_mlplatform.specs.streaming import App, Streaming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk.definitions._internal.mixins import DependencyMixin

    from airflow_mlplatform.specs.streaming import Connector

__all__ = ["build_streaming"]

# Airflow's ids hold 250 characters, those of the group and of the hash among them.
LONGEST_NAME = 200


def build_streaming(spec: Streaming, path: Path, shown: str) -> DAG:
    """Build the DAG of a streaming spec; two runs of one never work at the same time."""
    with new_dag(spec, path, shown, max_active_runs=1) as dag:
        parts: list[DependencyMixin] = []
        if spec.topics:
            parts.append(_topics(spec))
        if spec.sources:
            parts.append(_connectors(spec, "sources", spec.sources))
        if spec.app:
            parts.append(_app(spec, spec.app))
        if spec.sinks:
            parts.append(_connectors(spec, "sinks", spec.sinks))
        if spec.state == "absent":
            parts.reverse()
        chain(*parts)
    return dag


def _topics(spec: Streaming) -> KafkaTopicsOperator:
    return KafkaTopicsOperator(
        task_id="topics",
        topics=spec.topics,
        state="absent" if spec.state == "absent" else "present",
        delete=spec.delete_topics,
        kafka_conn_id=spec.kafka,
    )


def _connectors(spec: Streaming, group: str, connectors: Sequence[Connector]) -> TaskGroup:
    with TaskGroup(group) as tasks:
        for connector in connectors:
            KafkaConnectorOperator(
                task_id=task_id(connector.name),
                name=connector.name,
                config=dict(connector.config),
                state=spec.state,
                kafka_connect_conn_id=spec.connect,
                kafka_conn_id=spec.kafka,
            )
    return tasks


def _app(spec: Streaming, app: App) -> StreamAppOperator:
    return StreamAppOperator(
        task_id="app", name=spec.name, app=app, state=spec.state, pod=spec.defaults, kafka_conn_id=spec.kafka
    )


def task_id(name: str) -> str:
    """Return a task id for a connector, whose name may hold anything and may be long; two names do not share one."""
    plain = re.sub(r"[^a-zA-Z0-9_.-]", "_", name)[:LONGEST_NAME]
    return name if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
