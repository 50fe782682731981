"""Waiting for connectors: one poll for all, restarts, verdicts, outages."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from airflow_mlplatform.clients.http import Endpoint
from airflow_mlplatform.clients.kafka_connect import AsyncKafkaConnectClient, ConnectEndpoint
from airflow_mlplatform.connectors.waiting import ConnectorEvent
from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.hooks.kafka_connect import KafkaConnectHook
from airflow_mlplatform.metrics import CONNECTOR_FAILED_TASKS, CONNECTOR_RESTARTS, CONNECTOR_WAITS
from airflow_mlplatform.triggers import kafka_connect_watch
from airflow_mlplatform.triggers.kafka_connect import KafkaConnectorTrigger
from tests.unit.recorded_metrics import recording

SECRET = "hunter2-and-more"
TRACE = f"org.example.Broken: no way with {SECRET}\n\tat org.example.Task"


class Cluster:
    """A Connect cluster in memory: states of tasks by connector; notes what is asked."""

    def __init__(self) -> None:
        self.tasks: dict[str, list[str]] = {}
        self.offsets: list[dict[str, Any]] = []
        self.asked: Counter[str] = Counter()
        self.on_list: Callable[[int], None] = lambda _: None
        self.down: set[int] = set()
        self.status = 200

    def __call__(self, request: httpx.Request) -> httpx.Response:
        what = request.url.path.rpartition("/")[2]
        self.asked[what] += 1
        if self.status != 200:
            return httpx.Response(self.status, json={"error_code": self.status, "message": "no"})
        if what == "offsets":
            return httpx.Response(200, json={"offsets": self.offsets})
        if what == "restart":
            return httpx.Response(202, json={})
        self.on_list(self.asked[what])
        if self.asked[what] in self.down:
            raise httpx.ConnectError("down", request=request)
        return httpx.Response(200, json={name: self._one(name, tasks) for name, tasks in self.tasks.items()})

    def _one(self, name: str, states: list[str]) -> dict[str, Any]:
        tasks = [
            {"id": n, "state": state, "trace": TRACE if state == "FAILED" else ""} for n, state in enumerate(states)
        ]
        status = {"name": name, "connector": {"state": "RUNNING", "version": "1.2"}, "tasks": tasks, "type": "sink"}
        return {"status": status, "info": {"config": {"my.password": SECRET}}}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """What every KafkaConnectHook reaches, without the pauses of the real thing."""
    found = Cluster()

    async def async_client(hook: KafkaConnectHook) -> AsyncKafkaConnectClient:
        return AsyncKafkaConnectClient(ConnectEndpoint((Endpoint("http://one"),)), httpx.MockTransport(found))

    monkeypatch.setattr(KafkaConnectHook, "async_client", async_client)
    monkeypatch.setattr(kafka_connect_watch, "INTERVAL", 0.01)
    monkeypatch.setattr(kafka_connect_watch, "SPACING", 0.0)
    monkeypatch.setattr("airflow_mlplatform.connectors.progress.FIRST_PAUSE", 0.01)
    return found


def trigger(name: str = "c", seconds: float = 30.0, **wait: Any) -> KafkaConnectorTrigger:
    deadline = datetime.now(UTC).timestamp() + seconds
    return KafkaConnectorTrigger({"name": name, "state": "running", **wait}, deadline, "workers")


async def fired(one: KafkaConnectorTrigger) -> ConnectorEvent:
    path, arguments = one.serialize()
    assert path == "airflow_mlplatform.triggers.kafka_connect.KafkaConnectorTrigger"
    events = [event async for event in KafkaConnectorTrigger(**json.loads(json.dumps(arguments))).run()]
    assert len(events) == 1
    return ConnectorEvent.decode(json.loads(json.dumps(events[0].payload)))


async def test_it_fires_when_all_tasks_run(cluster: Cluster) -> None:
    cluster.tasks["c"] = []

    def later(times: int) -> None:
        cluster.tasks["c"] = ["RUNNING", "RUNNING"] if times > 3 else ["UNASSIGNED"]

    cluster.on_list = later
    event = await fired(trigger())
    assert event.ending == "done"
    assert event.status.model_dump() == {
        "state": "RUNNING", "tasks": ("RUNNING", "RUNNING"), "kind": "sink", "version": "1.2",
    }  # fmt: skip
    assert cluster.asked["connectors"] == 4


async def test_a_thousand_waits_ask_no_more_than_one(cluster: Cluster) -> None:
    names = [f"c{number}" for number in range(1000)]
    cluster.tasks = {name: ["UNASSIGNED"] for name in names}

    def later(times: int) -> None:
        if times == 5:
            cluster.tasks = {name: ["RUNNING"] for name in names}

    cluster.on_list = later
    events = await asyncio.gather(*(fired(trigger(name)) for name in names))
    assert {event.ending for event in events} == {"done"}
    assert cluster.asked == {"connectors": cluster.asked["connectors"]}
    assert cluster.asked["connectors"] <= 7
    assert kafka_connect_watch._watches == {}


async def test_failed_tasks_are_restarted_then_told_without_secrets(cluster: Cluster) -> None:
    cluster.tasks["c"] = ["RUNNING", "FAILED", "FAILED"]
    with recording() as recorder:
        event = await fired(trigger(restarts=2))
    assert event.ending == "failed"
    assert recorder.of(CONNECTOR_FAILED_TASKS) == {("c",): 2}
    assert (recorder.of(CONNECTOR_RESTARTS), recorder.of(CONNECTOR_WAITS)) == ({("c",): 2}, {("c", "failed"): 1})
    assert cluster.asked["restart"] == 2
    assert "after 2 restarts" in event.message
    assert event.message.count("org.example.Broken: no way with ********") == 1
    assert SECRET not in event.message


async def test_a_patient_wait_outlasts_failure(cluster: Cluster) -> None:
    cluster.tasks["c"] = ["FAILED"]

    def later(times: int) -> None:
        if times == 4:
            cluster.tasks["c"] = ["RUNNING"]

    cluster.on_list = later
    assert (await fired(trigger(patient=True))).ending == "done"


async def test_outages_are_borne(cluster: Cluster) -> None:
    cluster.tasks["c"] = ["RUNNING"]
    cluster.down = {1, 2, 3}
    assert (await fired(trigger())).ending == "done"


async def test_the_deadline_says_what_was_seen(cluster: Cluster) -> None:
    cluster.tasks["c"] = ["UNASSIGNED"]
    event = await fired(trigger(seconds=0.3))
    assert event.ending == "timeout"
    assert "not running, with all its tasks, in time\nconnector RUNNING, tasks: 0 UNASSIGNED" in event.message


async def test_a_refusal_is_a_mistake_for_all_who_wait(cluster: Cluster) -> None:
    cluster.status = 403
    events = await asyncio.gather(fired(trigger("a")), fired(trigger("b")))
    assert [event.ending for event in events] == ["mistake", "mistake"]
    cluster.status = 200
    cluster.tasks["a"] = ["RUNNING"]
    assert (await fired(trigger("a"))).ending == "done"


async def test_a_sink_catches_up(cluster: Cluster) -> None:
    cluster.tasks["c"] = ["RUNNING"]
    at = {"partition": {"kafka_topic": "t", "kafka_partition": 0}, "offset": {"kafka_offset": 4}}
    cluster.offsets = [at]

    def later(times: int) -> None:
        if times == 4:
            cluster.offsets = [{**at, "offset": {"kafka_offset": 7}}]

    cluster.on_list = later
    assert (await fired(trigger(caught_up=True, targets={"t": {"0": 7}}))).ending == "done"
    assert cluster.asked["offsets"] >= 2


async def test_a_sink_that_fails_while_it_catches_up_has_failed(cluster: Cluster) -> None:
    def later(times: int) -> None:
        cluster.tasks["c"] = ["RUNNING"] if times < 4 else ["FAILED"]

    cluster.on_list = later
    later(0)
    failed = await fired(trigger(caught_up=True, targets={"t": {"0": 7}}))
    assert (failed.ending, "org.example.Broken" in failed.message) == ("failed", True)
    assert cluster.asked["offsets"] >= 1
    cluster.asked.clear()
    # Its restarts are not used up when time is: it does not run, so it is not just slow.
    broken = await fired(trigger(seconds=0.5, caught_up=True, targets={"t": {"0": 7}}, restarts=99))
    assert broken.ending == "timeout"


async def test_a_sink_that_stays_behind_and_a_source_without_offsets(cluster: Cluster) -> None:
    cluster.tasks["c"] = ["RUNNING"]
    behind = await fired(trigger(seconds=0.3, caught_up=True, targets={"t": {"0": 7}}))
    assert (behind.ending, "it is 7 records behind" in behind.message) == ("behind", True)
    silent = await fired(trigger(seconds=0.3, caught_up=True))
    assert "heartbeat.interval.ms" in silent.message


@pytest.mark.parametrize("payload", [None, {}, {"ending": "well"}, {"ending": "done", "more": 1}, "done"])
def test_an_event_that_is_not_understood_is_a_failure(payload: object) -> None:
    with pytest.raises(ConfigurationError, match="same version of airflow-mlplatform"):
        ConnectorEvent.decode(payload)
