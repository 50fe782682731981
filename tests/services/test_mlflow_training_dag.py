"""The wine training in Airflow's own machinery: asset event → matrix of real `mlflow run` → best → registry."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlplatform.clients.mlflow import Endpoint, MlflowClient
from tests.parts import require

if TYPE_CHECKING:
    from tests.services.mlflow_server import MlflowServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DAGS = """
import sys

from airflow.sdk import DAG, Asset, task

from airflow_mlplatform.macros import MACROS
from airflow_mlplatform.operators.mlflow_register import MlflowRegisterOperator
from airflow_mlplatform.operators.mlflow_run import MlflowRunOperator
from airflow_mlplatform.operators.mlflow_select import MlflowSelectOperator

wine = Asset("pond://wine")

with DAG("wine_etl", schedule=None) as etl:

    @task(outlets=[wine])
    def load(*, outlet_events):
        outlet_events[wine].extra = {"uri": sys.argv[1], "schema_hash": "abc"}

    load()

with DAG("wine_training", schedule=[wine], user_defined_macros=MACROS, params={"features": 13}) as training:
    runs = MlflowRunOperator.partial(
        task_id="train",
        uri="project",
        search_path=sys.argv[2],
        experiment=sys.argv[3],
        parameters={"data": "{{ asset_uri('pond://wine') }}", "features": "{{ params.features }}"},
        env={"OMP_NUM_THREADS": "1"},
        inlets=[wine],
    ).expand(combination=[{"C": 0.001}, {"C": 1.0}])
    best = MlflowSelectOperator(task_id="select", runs=runs.output, metric="cv_log_loss", best="min")
    MlflowRegisterOperator(task_id="register", run=best.output, model=sys.argv[3])

if __name__ == "__main__":
    import json

    assert etl.test().state == "success"
    run = training.test()
    instances = {f"{ti.task_id}[{ti.map_index}]": [ti.state, ti.rendered_map_index] for ti in run.get_task_instances()}
    print("RESULT", json.dumps(instances))
"""


def wine_in_parquet(folder: Path) -> Path:
    """The two deliveries as the ETL would load them."""
    import pyarrow as arrow
    from pyarrow import parquet

    rows: list[dict[str, Any]] = []
    for file in sorted((ROOT / "dag_specs/wine/raw").glob("*.csv")):
        with file.open() as lines:
            rows += [{name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)]
    target = folder / "wine.parquet"
    parquet.write_table(arrow.Table.from_pylist(rows), target)
    return target


def test_from_an_asset_event_to_the_registry(tmp_path: Path, mlflow_server: MlflowServer) -> None:
    require(importlib.util.find_spec("sklearn"), "scikit-learn is missing; install it: uv sync --extra demo")
    name, data = f"wine {uuid.uuid4()}", wine_in_parquet(tmp_path)
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "wine.py").write_text(DAGS)
    environment = os.environ | mlflow_server.environment
    environment |= {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__MLPLATFORM__RUNTIME": "local"}
    environment["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=environment, check=True, capture_output=True)
    command = [sys.executable, str(tmp_path / "dags" / "wine.py"), str(data), str(ROOT / "dag_specs/wine"), name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert results, done.stdout[-5000:] + done.stderr[-5000:]
    assert json.loads(results[0].removeprefix("RESULT ")) == {
        "train[0]": ["success", "C=0.001"],
        "train[1]": ["success", "C=1.0"],
        "select[-1]": ["success", None],
        "register[-1]": ["success", None],
    }

    with MlflowClient(Endpoint(mlflow_server.url)) as client:
        runs = {run.params["C"]: run for run in client.search_runs(client.get_or_create_experiment(name))}
        assert {params: run.status for params, run in runs.items()} == {"0.001": "FINISHED", "1.0": "FINISHED"}
        best = runs["1.0"]
        assert best.metrics["cv_log_loss"] < runs["0.001"].metrics["cv_log_loss"]
        assert best.metrics["accuracy"] > 0.9 > runs["0.001"].metrics["accuracy"]
        assert best.params["data"] == str(data), "the macro gave what the asset event said"
        challenger = client.get_version_by_alias(name, "challenger")
        assert challenger is not None
        assert challenger.run_id == best.run_id
        assert challenger.tags["mlplatform.data.asset"] == "pond://wine"
        assert challenger.tags["mlplatform.data.uri"] == str(data)
        assert challenger.tags["mlplatform.data.schema_hash"] == "abc"
        assert challenger.tags["mlplatform.code_version"].startswith("sha256:")
        example = client.get_model_input_example(challenger.model_id)
        assert len(example["dataframe_split"]["data"]) == 3
        signature = client.get_logged_model_file(challenger.model_id, "MLmodel").decode()
        assert "proline" in signature
