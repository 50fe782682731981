"""Connectors in a wished state, on a real Kafka Connect with two workers."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_mlplatform import (
    KafkaConnectHook,
    KafkaConnectorOffsetsOperator,
    KafkaConnectorRestartOperator,
    KafkaConnectorSensor,
)
from airflow_mlplatform.clients.kafka_connect import KafkaConnectClient
from airflow_mlplatform.exceptions import ConnectorFailed, ServiceUnavailable
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
from tests.services.connector_tasks import Task, connection, fired, run_all
from tests.services.kafka_broker import KafkaBroker
from tests.services.postgres_server import PASSWORD, PostgresServer
from tests.waiting import wait_for

__all__ = ["connections", "lines", "name", "rest"]

pytestmark = pytest.mark.usefixtures("connections")
SECRET = "hunter2-and-more"


def writes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that change something, from now on."""
    sent: list[str] = []
    real = httpx.HTTPTransport.handle_request

    def noting(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if request.method != "GET":
            sent.append(f"{request.method} {request.url.path}")
        return real(self, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", noting)
    return sent


def test_a_life_of_a_connector(rest: httpx.Client, name: str, lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = source(lines, name, **{"batch.size": 10})
    made = Task()
    result = made.run(operator(name, config))
    assert (result["done"], result["state"], result["tasks"], result["kind"]) == (
        "created",
        "RUNNING",
        ["RUNNING"],
        "source",
    )
    assert result["version"] == "4.3.1"
    assert made.xcoms["kafka_connector_url"].endswith(f"/connectors/{name}")
    assert made.store == {}

    with monkeypatch.context() as patch:
        sent = writes(patch)
        assert Task().run(operator(name, config))["done"] == "nothing"
        assert sent == []

    updated = Task().run(operator(name, {**config, "batch.size": "20"}))
    assert updated["changed"] == {"batch.size": {"from": "10", "to": "20"}}
    assert config_of(rest, name)["batch.size"] == "20"

    assert Task().run(operator(name, state="paused"))["tasks"] == ["PAUSED"]
    paused = Task().run(operator(name, {**config, "batch.size": 30}, state="paused"))
    assert (paused["state"], config_of(rest, name)["batch.size"]) == ("PAUSED", "30")
    assert Task().run(operator(name, state="stopped"))["tasks"] == []
    assert Task().run(operator(name))["state"] == "RUNNING"
    assert Task().run(operator(name, config, state="absent"))["done"] == "removed"
    assert config_of(rest, name) == {}
    assert Task().run(operator(name, state="absent"))["done"] == "nothing"


@pytest.mark.parametrize("state", ["paused", "stopped"])
def test_a_connector_that_is_made_without_running(rest: httpx.Client, name: str, lines: Path, state: Any) -> None:
    assert Task().run(operator(name, source(lines, name), state=state))["state"] == state.upper()
    assert rest.get(f"/connectors/{name}/offsets").json()["offsets"] == []


def test_a_refused_update_changes_nothing(rest: httpx.Client, name: str, lines: Path) -> None:
    config = source(lines, name)
    Task().run(operator(name, config))
    before = config_of(rest, name)
    with pytest.raises(AirflowFailException, match=r"batch.size: Invalid value many.*"):
        Task().run(operator(name, {**config, "batch.size": "many"}))
    assert config_of(rest, name) == before


def test_a_plugin_that_is_missing(name: str, rest: httpx.Client) -> None:
    with pytest.raises(AirflowFailException, match="no plugin 'com.example.Nope'") as error:
        Task().run(operator(name, {"connector.class": "com.example.Nope"}))
    assert "io.debezium.connector.postgresql.PostgresConnector 3.6.0.Final" in str(error.value)
    assert config_of(rest, name) == {}


def test_a_new_connector_whose_task_fails_is_removed(rest: httpx.Client, name: str, tmp_path: Path) -> None:
    config = {"connector.class": SINK, "topics": "none", "file": str(tmp_path / "no" / "folder")}
    with pytest.raises(ConnectorFailed, match="Couldn't find or create file") as error:
        Task().run(operator(name, config, restarts=1))
    assert "NoSuchFileException" in str(error.value)
    assert "after 1 restarts" in str(error.value)
    assert "has been removed" in str(error.value)
    assert config_of(rest, name) == {}


def test_a_bad_update_gives_way_to_the_former_config_with_its_secrets(
    rest: httpx.Client, name: str, tmp_path: Path
) -> None:
    good = {"connector.class": SINK, "topics": "none", "file": str(tmp_path / "out"), "my.password": SECRET}
    Task().run(operator(name, good))
    before = config_of(rest, name)
    task = Task()
    bad = {**good, "file": f"/nowhere/{SECRET[::-1]}", "my.password": SECRET[::-1]}
    with pytest.raises(ConnectorFailed, match="former config has been put back") as error:
        task.run(operator(name, bad, restarts=0, settle=UNTIL_FAILED))
    assert SECRET[::-1] not in str(error.value)
    assert config_of(rest, name) == before
    assert SECRET not in task.everything
    assert SECRET[::-1] not in task.everything
    wait_for(lambda: [t["state"] for t in rest.get(f"/connectors/{name}/status").json()["tasks"]] == ["RUNNING"])


def test_a_worker_that_dies_after_its_change_leaves_the_way_back(rest: httpx.Client, name: str, tmp_path: Path) -> None:
    good = {"connector.class": SINK, "topics": "none", "file": str(tmp_path / "out"), "my.password": SECRET}
    Task().run(operator(name, good))
    before = config_of(rest, name)
    bad = operator(name, {**good, "file": "/nowhere/at/all"}, restarts=0, settle=UNTIL_FAILED)
    task = Task()
    assert isinstance(task.start(bad), TaskDeferred)  # here the first try is killed
    with pytest.raises(ConnectorFailed, match="former config has been put back"):
        task.run(bad)
    assert config_of(rest, name) == before


def test_secrets_that_stay_with_connect_are_no_difference(
    rest: httpx.Client, name: str, lines: Path, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets.properties"
    secrets.write_text(f"password={SECRET}\nfile={lines}\n")
    config = source(lines, name, **{"my.password": f"${{file:{secrets}:password}}", "other": "${env:HOME}"})
    config["file"] = f"${{file:{secrets}:file}}"
    Task().run(operator(name, config))
    assert Task().run(operator(name, config))["done"] == "nothing"
    assert Task().run(operator(name, {**config, "my.password": "********"}))["done"] == "nothing"


def test_failed_tasks_are_restarted_and_the_wait_goes_on(rest: httpx.Client, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "later"
    config = {"connector.class": SINK, "topics": "none", "file": str(folder / "out")}
    task, wished = Task(), operator(name, config)
    started = task.start(wished)
    wait_for(lambda: "FAILED" in rest.get(f"/connectors/{name}/status").text)
    folder.mkdir()
    assert task.end(wished, started, asyncio.run(fired(started.trigger)))["tasks"] == ["RUNNING"]


@pytest.mark.long
def test_a_sink_that_falls_behind_is_waited_for(rest: httpx.Client, name: str, lines: Path, tmp_path: Path) -> None:
    Task().run(operator(f"{name}-in", source(lines, name)))
    wait_for(lambda: rest.get(f"/connectors/{name}-in/offsets").json()["offsets"])
    sink = {"connector.class": SINK, "topics": name, "file": str(tmp_path / "out")}
    Task().run(operator(name, sink, state="stopped"))
    result = Task().run(operator(name, sink, wait_until="caught_up"))
    assert result["state"] == "RUNNING"
    assert (tmp_path / "out").read_text() == lines.read_text()

    # It runs, but gets nothing done: its consumer asks for more than there is, for a long time.
    slow = {**sink, "consumer.override.fetch.min.bytes": 50_000_000, "consumer.override.fetch.max.wait.ms": 25_000}
    Task().run(operator(name, state="stopped"))
    with lines.open("a") as file:
        file.write("one more\n")
    wait_for(lambda: str(lines.stat().st_size) in rest.get(f"/connectors/{name}-in/offsets").text)
    with pytest.raises(ConnectorFailed, match="it is 1 records behind"):
        Task().run(operator(name, slow, wait_until="caught_up", timeout=6.0))
    assert config_of(rest, name)["consumer.override.fetch.min.bytes"] == "50000000"


@pytest.mark.long
def test_marks_of_transactions_are_no_records(
    rest: httpx.Client, kafka: KafkaBroker, name: str, tmp_path: Path
) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": name})
    producer.init_transactions()
    for number in range(30):
        producer.begin_transaction()
        if number < 5:
            producer.produce(name, b"a line")
        producer.commit_transaction() if number != 3 else producer.abort_transaction()
    text = {"value.converter": "org.apache.kafka.connect.storage.StringConverter"}
    sink = {"connector.class": SINK, "topics": name, "file": str(tmp_path / "out"), **text}
    assert Task().run(operator(name, sink, wait_until="caught_up", timeout=60.0))["state"] == "RUNNING"
    committed = {**sink, "consumer.override.isolation.level": "read_committed", "file": str(tmp_path / "committed")}
    assert Task().run(operator(f"{name}-2", committed, wait_until="caught_up", timeout=60.0))["state"] == "RUNNING"
    assert len((tmp_path / "committed").read_text().splitlines()) == 4


def test_from_a_database_to_another_and_the_database_away(
    rest: httpx.Client, name: str, own_postgres: PostgresServer
) -> None:
    topic = f"{name}.public.orders"
    with own_postgres.connect() as shop:
        shop.execute("create table orders (id int primary key, item text)")
        shop.execute("insert into orders select g, 'item ' || g from generate_series(1, 3000) g")
    done = Task().run(operator(f"{name}-in", change_data_capture(own_postgres, name), wait_until="caught_up"))
    assert (done["kind"], done["version"]) == ("source", "3.6.0.Final")
    assert '"snapshot_completed":true' in rest.get(f"/connectors/{name}-in/offsets").text

    sink = operator(f"{name}-out", jdbc_sink(own_postgres, topic), wait_until="caught_up", timeout=120.0)
    task = Task()
    assert task.run(sink)["kind"] == "sink"
    with own_postgres.connect() as shop:
        assert shop.execute("select count(*), count(distinct id) from copies").fetchone() == (3000, 3000)
    assert PASSWORD not in task.everything

    own_postgres.stop()
    update = change_data_capture(own_postgres, name) | {"max.batch.size": 512}
    with pytest.raises(ServiceUnavailable, match="cannot reach what its config names, so nothing was changed"):
        Task().run(operator(f"{name}-in", update))
    assert "max.batch.size" not in config_of(rest, f"{name}-in")
    own_postgres.start()
    assert Task().run(operator(f"{name}-in", update))["changed"] == {"max.batch.size": {"from": None, "to": "512"}}


def test_offsets(rest: httpx.Client, name: str, lines: Path) -> None:
    def offsets(value: Any = None) -> Any:
        return Task().run(KafkaConnectorOffsetsOperator(task_id="a_task", name=name, offsets=value))

    Task().run(operator(name, source(lines, name)))
    wait_for(
        lambda: offsets() == [{"partition": {"filename": str(lines)}, "offset": {"position": lines.stat().st_size}}]
    )
    with pytest.raises(AirflowFailException, match="only while it is stopped"):
        offsets("reset")
    Task().run(operator(name, state="stopped"))
    wished = [{"partition": {"filename": str(lines)}, "offset": {"position": 7}}]
    assert offsets(wished) == wished
    assert offsets("reset") == []
    with pytest.raises(AirflowFailException, match="write reset"):
        offsets("rest")


def test_restart(name: str, lines: Path) -> None:
    Task().run(operator(name, source(lines, name)))
    restart = KafkaConnectorRestartOperator(task_id="a_task", name=name, settle=1.0)
    assert Task().run(restart)["tasks"] == ["RUNNING"]
    with pytest.raises(AirflowFailException, match="no connector 'nobody'"):
        Task().run(KafkaConnectorRestartOperator(task_id="a_task", name="nobody"))


def test_the_sensor_waits_for_health(rest: httpx.Client, name: str, tmp_path: Path, lines: Path) -> None:
    broken = {"connector.class": SINK, "topics": "none", "file": str(tmp_path / "no" / "out")}
    rest.put(f"/connectors/{name}/config", json=broken).raise_for_status()
    with pytest.raises(AirflowSensorTimeout, match="NoSuchFileException"):
        Task().run(KafkaConnectorSensor(task_id="a_task", name=name, timeout=5.0))
    rest.put(f"/connectors/{name}/config", json=source(lines, name)).raise_for_status()
    assert Task().run(KafkaConnectorSensor(task_id="a_task", name=name))["state"] == "RUNNING"
    here = KafkaConnectorSensor(task_id="a_task", name=name, deferrable=False, poke_interval=0.5)
    assert Task().run(here)["state"] == "RUNNING"


def test_connection_test(connect: ConnectWorkers) -> None:
    assert KafkaConnectHook().test_connection() == (True, "Kafka Connect 4.3.1 answers, with 4 connector plugins")
    with connection("elsewhere", conn_type="kafka_connect", host=f"{connect.urls[0]}/prefix"):
        done, why = KafkaConnectHook("elsewhere").test_connection()
    assert not done
    assert "no such page" in why or "HTTP 404" in why


def test_the_next_worker_is_asked_where_one_is_down(connect: ConnectWorkers, name: str, lines: Path) -> None:
    hosts = f"http://127.0.0.1:1,{connect.urls[1]}"
    with connection("kafka_connect_default", conn_type="kafka_connect", host=hosts):
        assert Task().run(operator(name, source(lines, name)))["state"] == "RUNNING"


@pytest.mark.long
def test_a_worker_is_killed_while_connectors_are_made(
    connect: ConnectWorkers, rest: httpx.Client, name: str, lines: Path
) -> None:
    wished = [operator(f"{name}-{number}", source(lines, name), timeout=120.0) for number in range(6)]
    killer = threading.Thread(target=connect.workers[1].kill)
    killer.start()
    try:
        results = run_all(wished)
        assert [result["tasks"] for result in results] == [["RUNNING"]] * 6
    finally:
        killer.join()
        connect.workers[1].start()


@pytest.mark.long
def test_two_hundred_connectors_at_once(
    kafka: KafkaBroker, name: str, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = httpx.AsyncHTTPTransport.handle_async_request

    async def counting(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return await real(self, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", counting)
    wished = [operator(f"{name}-{number}", source(lines, name), timeout=600.0) for number in range(200)]
    # Workers of its own: removing two hundred connectors takes longer than making them.
    with (
        ConnectWorkers(tmp_path / "connect", kafka.bootstrap, group=name) as own,
        connection("kafka_connect_default", conn_type="kafka_connect", host=",".join(own.urls)),
    ):
        assert [result["state"] for result in run_all(wished)] == ["RUNNING"] * 200
        assert set(asked) == {"/connectors"}
        assert {one["done"] for one in run_all(wished)} == {"nothing"}


@pytest.mark.parametrize("down", ["a worker", "all workers"])
def test_an_outage_is_an_outage(down: str, name: str, lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KafkaConnectHook, "client", lambda hook: KafkaConnectClient(hook.endpoint(), patience=0.5))
    hosts = "http://127.0.0.1:1" if down == "a worker" else "http://127.0.0.1:1,http://127.0.0.1:2"
    with (
        connection("kafka_connect_default", conn_type="kafka_connect", host=hosts),
        pytest.raises(ServiceUnavailable, match="does not answer"),
    ):
        Task().run(operator(name, source(lines, name)))
