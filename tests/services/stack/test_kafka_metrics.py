"""The names that rules and dashboards know of Kafka and Connect, scraped from real ones behind Strimzi's reporter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.services.connect_workers import ConnectWorkers
from tests.services.java_parts import Jars
from tests.services.java_process import JavaProcess
from tests.services.kafka_broker import KafkaBroker
from tests.services.ports import free_port
from tests.services.stack.rendering import render
from tests.unit.stack.queries import NAMES
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long]

# The newest with a part for brokers that Maven Central has.
REPORTER = Jars("strimzi-metrics-reporter", ("io.strimzi:metrics-reporter:0.2.0",))
CLASSES = "io.strimzi.kafka.metrics."
SETTING = "prometheus.metrics.reporter."
CLIENTS = ("", "admin.", "producer.", "consumer.")


@pytest.fixture(scope="module")
def allowed() -> dict[str, str]:
    """What the resources of the stack let through, by kind."""
    specs = {found["kind"]: found.get("spec") or {} for found in render("platform", "small")}
    of = {"Kafka": specs["Kafka"]["kafka"], "KafkaConnect": specs["KafkaConnect"]}
    return {kind: ",".join(spec["metricsConfig"]["values"]["allowList"]) for kind, spec in of.items()}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, allowed: dict[str, str]) -> Iterator[dict[str, str]]:
    """Where broker and worker are scraped; a source, a sink and a sink that fails are there."""
    folder = tmp_path_factory.mktemp("reported")
    addresses = {kind: f"http://127.0.0.1:{free_port()}" for kind in ("Kafka", "KafkaConnect")}
    of_kafka = {SETTING + "listener": addresses["Kafka"], SETTING + "allowlist": allowed["Kafka"]}
    of_connect = {SETTING + "listener": addresses["KafkaConnect"], SETTING + "allowlist": allowed["KafkaConnect"]}
    reporter = {"metric.reporters": f"{CLASSES}KafkaPrometheusMetricsReporter"}
    yammer = {"kafka.metrics.reporters": f"{CLASSES}YammerPrometheusMetricsReporter"}
    settings = {client + key: value for client in CLIENTS for key, value in (reporter | of_connect).items()}
    broker = KafkaBroker(folder / "kafka", settings=reporter | yammer | of_kafka)
    _reporting(broker.process)
    with broker:
        workers = ConnectWorkers(folder / "connect", broker.bootstrap, count=1, settings=settings)
        _reporting(workers.workers[0].process)
        with workers:
            (folder / "in").write_text("a\nb\n")
            _connector(workers, "source", {"connector.class": "FileStreamSource", "topic": "t", "file": f"{folder}/in"})
            _connector(workers, "sink", {"connector.class": "FileStreamSink", "topics": "t", "file": f"{folder}/out"})
            _connector(workers, "bad", {"connector.class": "FileStreamSink", "topics": "t", "file": "/nowhere/out"})
            wait_for(lambda: "FAILED" in httpx.get(f"{workers.urls[0]}/connectors/bad/status").text, "for a failure")
            wait_for((folder / "out").exists, "for records")
            yield addresses


def _reporting(process: JavaProcess) -> None:
    command = process.command
    command[command.index("-cp") + 1] += f":{REPORTER.folder}/*"


def _connector(workers: ConnectWorkers, name: str, config: dict[str, Any]) -> None:
    httpx.put(f"{workers.urls[0]}/connectors/{name}/config", json=config, timeout=60).raise_for_status()


@pytest.mark.parametrize(("kind", "file"), [("Kafka", "kafka.txt"), ("KafkaConnect", "kafka-connect.txt")])
def test_every_name_is_there(pages: dict[str, str], kind: str, file: str) -> None:
    lines = (Path(NAMES) / file).read_text("utf-8").splitlines()
    listed = {line for line in lines if line and not line.startswith("#")}
    page = httpx.get(f"{pages[kind]}/metrics", timeout=60).text
    found = {line.partition("{")[0].partition(" ")[0] for line in page.splitlines() if not line.startswith("#")}
    assert listed - found == set()
    # Little else: each name is a series a partition, a connector or a client.
    assert {name for name in found - listed if name.startswith("kafka_")} == set()


def test_a_failed_task_is_told_as_the_alert_asks(pages: dict[str, str]) -> None:
    page = httpx.get(f"{pages['KafkaConnect']}/metrics", timeout=60).text
    assert 'kafka_connect_connect_worker_metrics_connector_failed_task_count{connector="bad"} 1.0' in page
    assert 'kafka_connect_connector_metrics_status_info{connector="bad",status="running"} 1' in page
