"""What tests of connector tasks share: connections, the REST API itself, configs of the connectors at hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography.fernet import Fernet

from airflow_mlplatform import KafkaConnectorOperator
from tests.services.connect_workers import ConnectWorkers
from tests.services.connector_tasks import connection
from tests.services.kafka_broker import KafkaBroker
from tests.services.postgres_server import PostgresServer
from tests.waiting import wait_for

SOURCE = "org.apache.kafka.connect.file.FileStreamSourceConnector"
SINK = "org.apache.kafka.connect.file.FileStreamSinkConnector"


@pytest.fixture
def connections(kafka: KafkaBroker, connect: ConnectWorkers, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The connections that operators use if none is named."""
    from airflow.models.crypto import get_fernet

    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())
    get_fernet.cache_clear()
    with (
        connection("kafka_connect_default", conn_type="kafka_connect", host=",".join(connect.urls)),
        connection("kafka_default", conn_type="kafka", extra={"bootstrap.servers": kafka.bootstrap}),
    ):
        yield
    get_fernet.cache_clear()


@pytest.fixture
def rest(connect: ConnectWorkers) -> Iterator[httpx.Client]:
    """The REST API itself; connectors of the test are removed."""
    with httpx.Client(base_url=connect.urls[0], timeout=95) as client:
        before = set(client.get("/connectors").json())
        yield client
        for name in set(client.get("/connectors").json()) - before:
            wait_for(lambda path=f"/connectors/{name}": _settled(client.delete(path)))


@pytest.fixture
def name() -> str:
    return f"c-{uuid4().hex[:8]}"


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"line {number}\n" for number in range(20)))
    return file


# A task that starts anew with a bad config counts as running until it has failed.
UNTIL_FAILED = 6.0


def operator(name: str, config: dict[str, Any] | None = None, **arguments: Any) -> KafkaConnectorOperator:
    return KafkaConnectorOperator(task_id="a_task", name=name, config=config, **{"settle": 0.9} | arguments)


def source(file: Path, topic: str, **more: Any) -> dict[str, Any]:
    return {"connector.class": SOURCE, "file": str(file), "topic": topic, "tasks.max": 1, **more}


def change_data_capture(postgres: PostgresServer, name: str) -> dict[str, Any]:
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": "127.0.0.1",
        "database.port": postgres.port,
        "database.user": postgres.login.user,
        "database.password": postgres.login.password,
        "database.dbname": "postgres",
        "topic.prefix": name,
        "plugin.name": "pgoutput",
        "slot.name": name.replace("-", "_"),
        "table.include.list": "public.orders",
    }


def jdbc_sink(postgres: PostgresServer, topic: str) -> dict[str, Any]:
    return {
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "topics": topic,
        "connection.url": f"jdbc:postgresql://127.0.0.1:{postgres.port}/postgres",
        "connection.username": postgres.login.user,
        "connection.password": postgres.login.password,
        "insert.mode": "upsert",
        "primary.key.mode": "record_key",
        "schema.evolution": "basic",
        "collection.name.format": "copies",
    }


def config_of(rest: httpx.Client, name: str) -> dict[str, str]:
    """Its config, or nothing if there is no such connector; a worker that rebalances is asked again."""
    answer = wait_for(lambda: _settled(rest.get(f"/connectors/{name}/config")))
    return dict(answer.json()) if answer.status_code == 200 else {}


def _settled(answer: httpx.Response) -> httpx.Response | None:
    return None if answer.status_code == 409 else answer
