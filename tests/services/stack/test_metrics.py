"""What Airflow's processes send of this package's figures, as a real Prometheus gets it from a real statsd exporter."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from airflow_mlplatform.metrics import (
    CONNECTOR_WAITS,
    LOAD_ROWS,
    LOAD_TIME,
    METRICS,
    SPEC_INTERVAL,
    SPECS,
    Counter,
    Metric,
)
from tests.parts import require
from tests.services.airflow_home import AirflowHome, migrated_database
from tests.services.prometheus_server import PrometheusServer
from tests.services.stack.rendering import values
from tests.services.statsd_exporter import StatsdExporter
from tests.unit.stack.queries import queries
from tests.waiting import wait_for

__all__ = ["migrated_database"]

# What only the KubernetesExecutor tells, and runs that an asset starts.
ELSEWHERE = {
    "airflow_asset_triggered_dagruns",
    "airflow_kubernetes_executor_pod_creation_status",
    "airflow_kubernetes_executor_pod_deletion_status",
}
ETL = """\
apiVersion: mlplatform/v1
kind: etl
name: wine
schedule: 6h
start: 2026-01-01
extract: {files: {uri: "file://FOLDER/wine.csv"}}
load: {uri: "pond://wine.parquet"}
"""
BROKEN = "apiVersion: mlplatform/v1\nkind: training\nname: broken\nprojekt: {}\n"
SENSOR = """
from airflow.sdk import DAG
from airflow_mlplatform import KafkaConnectorSensor

with DAG("waiting", schedule=None):
    KafkaConnectorSensor(task_id="wait", name="clicks")
"""


class Refusing(BaseHTTPRequestHandler):
    """A Connect that lets nobody in."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[StatsdExporter]:
    require(importlib.util.find_spec("statsd"), "statsd: rm .venv/.installed && make lint")
    found = StatsdExporter(tmp_path, values("airflow", "small")["statsd"]["extraMappings"])
    try:
        yield found.start()
    finally:
        found.stop()


@pytest.fixture
def prometheus(tmp_path: Path, exporter: StatsdExporter) -> Iterator[PrometheusServer]:
    (tmp_path / "prometheus").mkdir()
    server = PrometheusServer(tmp_path / "prometheus", targets=(exporter.address,))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def airflow(tmp_path: Path, exporter: StatsdExporter, migrated_database: Path) -> Iterator[AirflowHome]:
    specs = tmp_path / "specs"
    specs.mkdir()
    (tmp_path / "wine.csv").write_text("a,b\n1,2\n3,4\n")
    (specs / "wine.yaml").write_text(ETL.replace("FOLDER", str(tmp_path)))
    (specs / "broken.yaml").write_text(BROKEN)
    bundles = [
        {"name": "specs", "classpath": "airflow_mlplatform.bundle.SpecBundle", "kwargs": {"path": str(specs)}},
        {"name": "dags-folder", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {}},
    ]
    environment = {**exporter.environment, "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles)}
    home = AirflowHome(tmp_path / "airflow", environment).migrate(migrated_database)
    yield home
    home.kill()


def found(prometheus: PrometheusServer, metric: Metric, **labels: str) -> dict[tuple[str, ...], float]:
    """The values that Prometheus has of a metric, by the labels that are not given."""
    names = tuple(label for label in metric.labels if label not in labels)
    selector = ",".join(f'{key}="{value}"' for key, value in labels.items())
    query = {"query": f"{metric.prometheus}{{{selector}}}"}
    answer: Any = httpx.get(f"{prometheus.url}/api/v1/query", params=query).json()
    series = answer["data"]["result"]
    return {tuple(one["metric"][label] for label in names): float(one["value"][1]) for one in series}


def page(exporter: StatsdExporter) -> str:
    """What the exporter shows."""
    return httpx.get(f"http://{exporter.address}/metrics").text


def asked_of_airflow() -> set[str]:
    """Names of Airflow's own metrics that rules and dashboards ask for."""
    words = {word for query in queries() for word in re.findall(r"airflow_\w+", query.expr)}
    return {word for word in words if not word.startswith("airflow_mlplatform")} - ELSEWHERE


@pytest.fixture
def sending(exporter: StatsdExporter, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process sends to the exporter, as a process of Airflow would."""
    from airflow.sdk.observability import stats
    from airflow.sdk.observability.metrics.stats_utils import get_stats_factory

    with monkeypatch.context() as patch:
        for name, value in exporter.environment.items():
            patch.setenv(name, value)
        stats.initialize(factory=get_stats_factory(), export_legacy_names=False)
        yield
    stats.initialize(factory=get_stats_factory(), export_legacy_names=False)


@pytest.mark.usefixtures("sending")
def test_every_metric_passes_the_exporter(exporter: StatsdExporter) -> None:
    """By Airflow's own sender and StatsD's own client, as a line that the exporter understands, with all its labels."""
    for metric in METRICS:
        labels = {label: f"a-{label}" for label in metric.labels}
        if isinstance(metric, Counter):
            metric.add(**labels)
        else:
            metric.set(True, **labels)
    wait_for(lambda: METRICS[-1].prometheus in page(exporter), f"for {METRICS[-1].name}")
    for metric in METRICS:
        labels_shown = ",".join(f'{label}="a-{label}"' for label in sorted(metric.labels))
        assert f"\n{metric.prometheus}{{{labels_shown}}} 1\n" in page(exporter)


def test_the_dag_processor_tells_how_many_specs_load(airflow: AirflowHome, prometheus: PrometheusServer) -> None:
    airflow.command("dag-processor", "--num-runs", "1")
    counts = wait_for(lambda: found(prometheus, SPECS, bundle="specs"), "for the specs in Prometheus")
    assert {key: count for key, count in counts.items() if count} == {("etl", "loaded"): 1, ("training", "broken"): 1}
    assert len(counts) == 10
    assert found(prometheus, SPEC_INTERVAL) == {("wine",): 6 * 3600}


@pytest.mark.long
def test_workers_and_the_triggerer_are_heard_too(
    airflow: AirflowHome, prometheus: PrometheusServer, exporter: StatsdExporter
) -> None:
    """Airflow's processes set their senders of metrics up each in its own way: all of them have to know ours."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=server.serve_forever, daemon=True).start()
    connection = {"conn_type": "kafka_connect", "host": "127.0.0.1", "port": server.server_address[1]}
    airflow.variables["AIRFLOW_CONN_KAFKA_CONNECT_DEFAULT"] = json.dumps(connection)
    (airflow.dags / "waiting.py").write_text(SENSOR)
    airflow.start()
    airflow.wait_for_run("waiting", _started(airflow, "waiting"))
    airflow.wait_for_run("wine", _started(airflow, "wine"))
    server.shutdown()
    assert wait_for(lambda: found(prometheus, LOAD_ROWS), "for the load in Prometheus") == {
        ("wine", "pond_//wine.parquet"): 2
    }
    assert found(prometheus, LOAD_TIME, dag_id="wine")
    assert found(prometheus, CONNECTOR_WAITS) == {("clicks", "mistake"): 1}
    lines = page(exporter).splitlines()
    assert asked_of_airflow() - {re.split(r"[{ ]", line)[0] for line in lines} == set()


def _started(airflow: AirflowHome, dag_id: str) -> str:
    wait_for(lambda: airflow.get(f"/dags/{dag_id}"), f"for {dag_id} to be parsed", 90)
    return airflow.trigger(dag_id)
