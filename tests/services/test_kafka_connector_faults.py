"""Connectors while something dies: workers of Airflow and of Kafka Connect, databases."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_mlplatform import KafkaConnectHook
from airflow_mlplatform.clients.kafka_connect import KafkaConnectClient
from airflow_mlplatform.exceptions import ConnectorFailed
from tests.services.connect_ingress import ConnectIngress
from tests.services.connect_workers import ConnectWorkers
from tests.services.connector_parts import (
    SINK,
    UNTIL_FAILED,
    change_data_capture,
    config_of,
    connections,
    jdbc_sink,
    lines,
    name,
    operator,
    rest,
    source,
)
from tests.services.connector_tasks import Task, fired
from tests.services.dying_connector import DyingConnectorTask
from tests.services.kafka_broker import KafkaBroker
from tests.services.postgres_server import PostgresServer
from tests.waiting import wait_for

__all__ = ["connections", "lines", "name", "rest"]

pytestmark = pytest.mark.usefixtures("connections")

SCHEMA = {
    "type": "struct", "name": "row", "fields": [{"field": "id", "type": "int32"}, {"field": "item", "type": "string"}],
}  # fmt: skip


def states(rest: httpx.Client, name: str) -> list[str]:
    """The states of a connector's tasks."""
    answer = rest.get(f"/connectors/{name}/status").json()
    return [task["state"] for task in answer.get("tasks", ())]


def test_a_worker_that_is_killed_between_its_change_and_its_wait(
    connect: ConnectWorkers, rest: httpx.Client, name: str, tmp_path: Path
) -> None:
    good = {"connector.class": SINK, "topics": "none", "file": str(tmp_path / "out")}
    Task().run(operator(name, good))
    before = config_of(rest, name)
    bad = {"name": name, "config": {**good, "file": "/nowhere/at/all"}, "restarts": 0, "settle": UNTIL_FAILED}
    with ConnectIngress(connect.urls[0]) as ingress:
        dying = DyingConnectorTask(tmp_path, ingress.url, **bad)
        ingress.on_answer = lambda what: dying.kill() if what == f"PUT /connectors/{name}/config" else None
        dying.run()
        assert dying.killed
        ingress.on_answer = lambda _: None
        again = operator(**bad)
        task = Task(store=dying.store)
        assert task.store, "the first try left nothing"
        started = task.start(again)
        assert ingress.changes == [f"PUT /connectors/{name}/config"]
    with pytest.raises(ConnectorFailed, match="former config has been put back"):
        task.end(again, started, asyncio.run(fired(started.trigger)))
    assert config_of(rest, name) == before
    assert task.store == {}


def test_a_paused_connector_whose_update_does_not_start_is_paused_as_before(
    rest: httpx.Client, name: str, tmp_path: Path
) -> None:
    good = {"connector.class": SINK, "topics": "none", "file": str(tmp_path / "out")}
    Task().run(operator(name, good, state="paused"))
    before = config_of(rest, name)
    with pytest.raises(ConnectorFailed, match="former config has been put back"):
        Task().run(operator(name, {**good, "file": "/nowhere/at/all"}, restarts=0, settle=UNTIL_FAILED))
    assert config_of(rest, name) == before
    wait_for(lambda: rest.get(f"/connectors/{name}/status").json()["connector"]["state"] == "PAUSED")
    wait_for(lambda: states(rest, name) == [])
    assert Task().run(operator(name, good))["tasks"] == ["RUNNING"]


def test_a_source_without_snapshot_has_nothing_to_catch_up(
    rest: httpx.Client, name: str, own_postgres: PostgresServer, lines: Path
) -> None:
    with own_postgres.connect() as shop:
        shop.execute("create table orders (id int primary key)")
    capture = change_data_capture(own_postgres, name) | {"snapshot.mode": "no_data"}
    assert Task().run(operator(name, capture, wait_until="caught_up", timeout=60.0))["state"] == "RUNNING"
    assert rest.get(f"/connectors/{name}/offsets").json()["offsets"] == []
    with pytest.raises(AirflowFailException, match="FileStreamSourceConnector does not tell when it has caught up"):
        Task().run(operator(f"{name}-2", source(lines, name), wait_until="caught_up"))
    assert config_of(rest, f"{name}-2") == {}


@pytest.mark.long
def test_a_wrong_password_is_found_before_the_task_succeeds(
    rest: httpx.Client, name: str, own_postgres: PostgresServer
) -> None:
    """The sink tries for half a minute, while its task counts as running."""
    good = jdbc_sink(own_postgres, name)
    assert Task().run(operator(name, good, settle=None))["done"] == "created"
    before = config_of(rest, name)
    wrong = operator(name, {**good, "connection.password": "wrong-password"}, settle=None, restarts=0)
    with pytest.raises(ConnectorFailed, match=r"(?s)tasks: 0 FAILED.*org.hibernate.*put back") as error:
        Task().run(wrong)
    assert "wrong-password" not in str(error.value)
    assert config_of(rest, name) == before
    wait_for(lambda: states(rest, name) == ["RUNNING"])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_database_of_a_sink_is_away_at_its_start_and_later(
    rest: httpx.Client, kafka: KafkaBroker, name: str, own_postgres: PostgresServer
) -> None:
    sink = operator(name, jdbc_sink(own_postgres, name), wait_until="caught_up", timeout=300.0)
    produce(kafka, name, range(100))
    own_postgres.stop()
    task = Task()
    started = task.start(sink)
    assert isinstance(started, TaskDeferred)
    back = when_failed(rest, name, own_postgres.start)
    assert task.end(sink, started, asyncio.run(fired(started.trigger)))["tasks"] == ["RUNNING"]
    back.join()
    assert copied(own_postgres) == (100, 100)

    own_postgres.stop()
    produce(kafka, name, range(50, 150))
    task = Task()
    started = task.start(sink)
    back = when_failed(rest, name, own_postgres.start)
    assert task.end(sink, started, asyncio.run(fired(started.trigger)))["done"] == "nothing"
    back.join()
    assert copied(own_postgres) == (150, 150)


@pytest.mark.long
def test_a_sink_that_fails_while_it_catches_up_gives_way_to_the_former_config(
    rest: httpx.Client, kafka: KafkaBroker, name: str, own_postgres: PostgresServer
) -> None:
    good = jdbc_sink(own_postgres, name)
    Task().run(operator(name, good))
    Task().run(operator(name, state="stopped"))
    before = config_of(rest, name)
    # It runs, but gets its records late, when the database is away.
    late = {**good, "consumer.override.fetch.min.bytes": 50_000_000, "consumer.override.fetch.max.wait.ms": 15_000}
    produce(kafka, name, range(10))
    task, slow = Task(), operator(name, late, wait_until="caught_up", restarts=0, timeout=120.0)
    started = task.start(slow)
    wait_for(lambda: states(rest, name) == ["RUNNING"])
    own_postgres.stop()
    with pytest.raises(ConnectorFailed, match="one of its tasks has failed") as error:
        task.end(slow, started, asyncio.run(fired(started.trigger)))
    own_postgres.start()
    assert "former config has been put back" in str(error.value)
    assert config_of(rest, name) == before
    assert states(rest, name) == []


@pytest.mark.long
def test_all_workers_are_away_for_a_while(
    connect: ConnectWorkers, name: str, lines: Path, rest: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Workers that start answer 404 for a while, and on a busy machine for longer than two minutes.
    monkeypatch.setattr(KafkaConnectHook, "client", lambda hook: KafkaConnectClient(hook.endpoint(), patience=600))
    task, wished = Task(), operator(name, source(lines, name), timeout=600.0)
    start_again(connect)
    started = task.start(wished)
    start_again(connect)
    assert task.end(wished, started, asyncio.run(fired(started.trigger)))["tasks"] == ["RUNNING"]
    for worker in connect.workers:
        worker.wait()


def start_again(connect: ConnectWorkers) -> None:
    """Kill all workers and start them, without waiting."""
    connect.kill()
    for worker in connect.workers:
        worker.launch()


def produce(kafka: KafkaBroker, topic: str, numbers: range) -> None:
    """Write rows with their schema, as the JDBC sink wants them."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    key = {**SCHEMA, "fields": SCHEMA["fields"][:1]}
    for number in numbers:
        row = {"id": number, "item": f"item {number}"}
        producer.produce(topic, with_schema(SCHEMA, row), with_schema(key, {"id": number}))
    producer.flush()


def with_schema(schema: dict[str, Any], payload: dict[str, Any]) -> bytes:
    return json.dumps({"schema": schema, "payload": payload}).encode()


def when_failed(rest: httpx.Client, name: str, what: Any) -> threading.Thread:
    """Do something once a task has failed."""

    def work() -> None:
        wait_for(lambda: "FAILED" in states(rest, name), "until a task has failed", 120)
        what()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def copied(database: PostgresServer) -> Any:
    with database.connect() as connection:
        return connection.execute("select count(*), count(distinct id) from copies").fetchone()
