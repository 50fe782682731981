"""What a run of a deployment's DAG is for, decided by Airflow's own triggerer without a worker."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.services.airflow_home import AirflowHome, migrated_database, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["migrated_database"]

pytestmark = [pytest.mark.slow, pytest.mark.long]

DAGS = """
from __future__ import annotations

import time
from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_mlplatform.operators.seldon_actions import SeldonTeardownOperator
from airflow_mlplatform.operators.seldon_deploy import SeldonDeployOperator
from airflow_mlplatform.operators.turn import TurnOperator

SERVING = {"name": "wine", "namespace": "models"}
FOLDER = Path(__file__).parent.parent

with DAG("served", schedule=None, params={"action": Param("deploy"), "hold": Param("")}):
    turn = TurnOperator(task_id="turn", only_if="{{ params.action == 'deploy' }}")

    @task
    def gate(params=None):
        while params["hold"] and not (FOLDER / params["hold"]).exists():
            time.sleep(0.2)
        return {"promote": False}

    verdict = gate()
    turn >> verdict
    SeldonDeployOperator(task_id="deploy", serving=SERVING, model=verdict, retries=0)
    SeldonTeardownOperator(task_id="teardown", serving=SERVING, only_if="{{ params.action == 'teardown' }}")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Iterator[AirflowHome]:
    python = os.environ.get("MLPLATFORM_AIRFLOW_PYTHON", sys.executable)
    mlflow = {"AIRFLOW_CONN_MLFLOW_DEFAULT": '{"conn_type": "mlflow", "host": "http://127.0.0.1:1"}'}
    airflow = AirflowHome(tmp_path_factory.mktemp("airflow"), mlflow, python).migrate(migrated_database)
    (airflow.dags / "served.py").write_text(DAGS)
    try:
        airflow.start()
        airflow.wait_for_dag("served")
        yield airflow
    finally:
        airflow.kill()


def test_what_a_run_is_not_for_is_skipped_and_deployments_take_turns(home: AirflowHome) -> None:
    first = home.trigger("served", {"hold": "first"})
    wait_for(lambda: home.states("served", first)["gate"] == "running", "the first run to be past its turn")
    assert home.states("served", first)["teardown"] == "skipped"
    second = home.trigger("served", {})
    wait_for(lambda: home.states("served", second)["teardown"] == "skipped", "the second run to have begun")
    assert home.states("served", second)["turn"] == "deferred"
    (home.folder / "first").touch()
    assert home.wait_for_run("served", first) == "failed"
    assert home.wait_for_run("served", second) == "failed"
    for run in (first, second):
        found = home.states("served", run)
        assert (found["turn"], found["gate"], found["deploy"]) == ("success", "success", "failed")
    # It was told what the gate found, which names no model.
    assert "names no model" in home.task_log("served", second, "deploy")
