"""Tasks about connectors in Airflow's own scheduler, triggerer and workers, against a real Kafka Connect."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet

from tests.services.airflow_home import AirflowHome, migrated_database, wait_for
from tests.services.connect_ingress import ConnectIngress
from tests.services.connect_workers import ConnectWorkers

__all__ = ["migrated_database"]

pytestmark = [pytest.mark.slow, pytest.mark.long]

SECRET = "hunter2-and-more"
DAGS = """
from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_mlplatform import KafkaConnectorOperator, KafkaConnectorSensor

SINK = {"connector.class": "FileStreamSink", "topics": "none", "tasks.max": 1}

again = {"retries": 1, "retry_delay": timedelta(seconds=1)}
with DAG("connectors", schedule=None, params={"file": ""}, default_args=again):
    config = {**SINK, "file": "{{ params.file }}", "my.password": "{{ conn.target.password }}"}
    sink = KafkaConnectorOperator(task_id="sink", name="in-airflow", config=config, settle=6, restarts=1)
    sink >> KafkaConnectorSensor(task_id="healthy", name="in-airflow")
    KafkaConnectorOperator.partial(task_id="many", config={**SINK, "file": "{{ params.file }}-many"}, settle=1).expand(
        name=["mapped-1", "mapped-2"]
    )

with DAG("killed", schedule=None, params={"file": ""}):
    KafkaConnectorOperator(
        task_id="sink",
        name="killed",
        config={**SINK, "file": "{{ params.file }}"},
        settle=6,
        kafka_connect_conn_id="ingress",
    )
"""


@pytest.fixture(scope="module")
def ingress(connect: ConnectWorkers) -> Iterator[ConnectIngress]:
    with ConnectIngress(connect.urls[0]) as found:
        yield found


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Path,
    connect: ConnectWorkers,
    ingress: ConnectIngress,
) -> Iterator[AirflowHome]:
    workers = {"conn_type": "kafka_connect", "host": ",".join(connect.urls)}
    environment = {
        "AIRFLOW_CONN_KAFKA_CONNECT_DEFAULT": json.dumps(workers),
        "AIRFLOW_CONN_INGRESS": json.dumps({"conn_type": "kafka_connect", "host": ingress.url}),
        "AIRFLOW_CONN_TARGET": json.dumps({"conn_type": "generic", "password": SECRET}),
        "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
    }
    python = os.environ.get("MLPLATFORM_AIRFLOW_PYTHON", sys.executable)
    airflow = AirflowHome(tmp_path_factory.mktemp("airflow"), environment, python).migrate(migrated_database)
    (airflow.dags / "connectors.py").write_text(DAGS)
    try:
        airflow.start()
        airflow.wait_for_dag("connectors")
        airflow.wait_for_dag("killed")
        yield airflow
    finally:
        airflow.kill()


def test_connectors_in_airflow(home: AirflowHome, connect: ConnectWorkers, tmp_path: Path) -> None:
    run = home.trigger("connectors", {"file": str(tmp_path / "out")})
    assert home.wait_for_run("connectors", run, timeout=180.0) == "success", home.tasks("connectors", run)
    told = home.xcom("connectors", run, "sink")
    assert (told["done"], told["state"], told["changed"]["my.password"]["to"]) == ("created", "RUNNING", "********")
    assert home.xcom("connectors", run, "sink", "kafka_connector_url").endswith("/connectors/in-airflow")
    assert home.xcom("connectors", run, "many", map_index=1)["name"] == "mapped-2"
    before = httpx.get(f"{connect.urls[0]}/connectors/in-airflow/config").json()
    assert before["my.password"] == SECRET

    run = home.trigger("connectors", {"file": "/nowhere/at/all"})
    assert home.wait_for_run("connectors", run, timeout=240.0) == "failed"
    log = home.task_log("connectors", run, "sink", attempt=2)
    assert "java.nio.file.NoSuchFileException: /nowhere/at/all" in log
    assert "former config has been put back" in log
    assert httpx.get(f"{connect.urls[0]}/connectors/in-airflow/config").json() == before
    assert SECRET not in log
    with sqlite3.connect(f"file:{home.folder}/airflow.db?mode=ro", uri=True) as database:
        stored = "\n".join(line for line in database.iterdump() if "serialized_dag" not in line)
    assert SECRET not in stored


def test_the_triggerer_is_killed_while_it_waits(home: AirflowHome, ingress: ConnectIngress, tmp_path: Path) -> None:
    def config() -> dict[str, str]:
        return dict(httpx.get(f"{ingress.worker}/connectors/killed/config").json())

    run = home.trigger("killed", {"file": str(tmp_path / "out")})
    assert home.wait_for_run("killed", run) == "success", home.task_log("killed", run, "sink")
    before = config()

    ingress.passed.clear()
    run = home.trigger("killed", {"file": "/nowhere/at/all"})
    restart, change = "POST /connectors/killed/restart", "PUT /connectors/killed/config"
    wait_for(lambda: restart in ingress.passed, "the trigger to restart what has failed")
    home.kill("triggerer")
    assert ingress.changes.count(change) == 1
    home.start("triggerer")
    assert home.wait_for_run("killed", run, timeout=180.0) == "failed"
    assert "former config has been put back" in home.task_log("killed", run, "sink")
    assert ingress.changes.count(change) == 2
    assert config() == before
