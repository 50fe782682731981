"""Split files in a whole Airflow: mapped tasks, their labels, clearing, and what a later run sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest

from tests.services.airflow_home import AirflowHome, airflow_home, migrated_database

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["airflow_home", "migrated_database"]

pytestmark = pytest.mark.slow

SPEC = """\
apiVersion: mlplatform/v1
kind: etl
name: split
retries: {{count: 0}}
extract: {{files: {{uri: "{raw}/*.csv", split: 3}}}}
transform:
  - {{sql: "select *, id * 2 as twice from input", per: part}}
  - {{sql: "select *, count(*) over () as total from input"}}
checks: {{unique: [id], rows: {{min: 1}}}}
load: {{uri: "{pond}"}}
"""
DAG = """\
# airflow dag
from airflow_mlplatform.factory.build import dag_of

dag = dag_of({path!r}, root={root!r})
"""


def put(raw: Path, *ids: int) -> None:
    for number in ids:
        (raw / f"{number}.csv").write_text(f"id,name\n{number},n{number}\n")


@pytest.fixture
def home(airflow_home: AirflowHome, tmp_path: Path) -> AirflowHome:
    airflow_home.variables["AIRFLOW__MLPLATFORM__RUNTIME"] = "local"
    airflow_home.variables["AIRFLOW__MLPLATFORM__STAGING"] = str(tmp_path / "staging")
    spec = tmp_path / "split.yaml"
    (tmp_path / "raw").mkdir()
    spec.write_text(SPEC.format(raw=tmp_path / "raw", pond=tmp_path / "pond/split"))
    (airflow_home.dags / "split.py").write_text(DAG.format(path=str(spec), root=str(tmp_path)))
    return airflow_home


def loaded(tmp_path: Path) -> list[tuple[int, int, int]]:
    query = f"SELECT id, twice, total FROM '{tmp_path}/pond/split/*.parquet' ORDER BY id"
    return duckdb.sql(query).fetchall()


def test_a_split_etl_and_a_clearing_with_fewer_files(home: AirflowHome, tmp_path: Path) -> None:
    put(tmp_path / "raw", *range(1, 6))
    home.start()
    home.wait_for_dag("split")
    run = home.trigger("split")
    assert home.wait_for_run("split", run) == "success"
    tasks = home.tasks("split", run)
    assert set(tasks) == {
        "list", *(f"extract[{n}]" for n in range(3)), *(f"transform_1[{n}]" for n in range(3)), "transform_2", "check",
        "load",
    }  # fmt: skip
    assert tasks["extract[0]"]["rendered_map_index"] == "part 1 of 3: 2 files, 26 bytes"
    assert tasks["transform_1[2]"]["rendered_map_index"].startswith("part 3 of 3: 1 file,")
    assert loaded(tmp_path) == [(n, 2 * n, 5) for n in range(1, 6)]
    assert not list((tmp_path / "staging").iterdir())

    for number in (1, 2, 3):
        (tmp_path / "raw" / f"{number}.csv").unlink()
    home.send("POST", "/dags/split/clearTaskInstances", {"dry_run": False, "dag_run_id": run, "only_failed": False})
    assert home.wait_for_run("split", run) == "success"
    assert {state for name, state in home.states("split", run).items() if name.endswith("[2]")} <= {"removed"}
    assert loaded(tmp_path) == [(4, 8, 2), (5, 10, 2)]
    result = home.xcom("split", run, "load")
    assert result["rows"] == 2
    assert not list((tmp_path / "staging").iterdir())
