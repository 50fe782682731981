"""A person's yes before a rollout, in Airflow's own scheduler and triggerer, and what no answer means."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from airflow_mlplatform.clients.mlflow import Endpoint, MlflowClient
from tests.services.airflow_home import AirflowHome, migrated_database
from tests.services.mlflow_server import MlflowServer, mlflow_server
from tests.services.test_promotion_registry import train

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["migrated_database", "mlflow_server"]

pytestmark = [pytest.mark.slow, pytest.mark.long]

PATIENCE = 180.0
DAGS = """
from __future__ import annotations

from airflow.sdk import DAG  # Airflow parses only files that name it.

from airflow_mlplatform.factory.build import build_dag
from airflow_mlplatform.specs.load import load_text

SPEC = '''
apiVersion: mlplatform/v1
kind: deployment
name: no-answer-{default}
model: {{name: asked}}
gate: {{approval: {{users: [ann], timeout: 3s, default: {default}}}}}
preflight: false
serving: {{name: asked}}
retries: {{count: 0}}
'''
for default in ("approve", "reject"):
    (document,) = load_text(SPEC.format(default=default))
    globals()[default] = build_dag(document)
"""


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: Path, mlflow_server: MlflowServer
) -> Iterator[AirflowHome]:
    environment = {**mlflow_server.environment, "AIRFLOW__MLPLATFORM__RUNTIME": "local"}
    python = os.environ.get("MLPLATFORM_AIRFLOW_PYTHON", sys.executable)
    airflow = AirflowHome(tmp_path_factory.mktemp("airflow"), environment, python).migrate(migrated_database)
    (airflow.dags / "approvals.py").write_text(DAGS)
    try:
        airflow.start()
        airflow.wait_for_dag("no-answer-reject")
        yield airflow
    finally:
        airflow.kill()


@pytest.mark.parametrize(("default", "choice"), [("approve", "Approve"), ("reject", "Reject")])
def test_what_no_answer_means_before_a_rollout(
    home: AirflowHome, mlflow_server: MlflowServer, default: str, choice: str
) -> None:
    train(MlflowClient(Endpoint(mlflow_server.url)), "asked", "challenger")
    dag = f"no-answer-{default}"
    run = home.trigger(dag)
    home.wait_for_run(dag, run, PATIENCE)
    found: dict[str, Any] = home.states(dag, run)
    assert (found["turn"], found["gate"], found["approval"]) == ("success", "success", "success")
    # The version has no files, so that a rollout fails.
    assert found["deploy"] == ("failed" if default == "approve" else "skipped")
    detail = home.get(f"/dags/{dag}/dagRuns/{quote(run, safe='')}/taskInstances/approval/-1/hitlDetails")
    assert (detail["chosen_options"], detail["assigned_users"][0]["id"]) == ([choice], "ann")
