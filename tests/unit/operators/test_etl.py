from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from collections import defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlplatform.exceptions import UnsupportedHere
from airflow_mlplatform.metrics import LOAD_ROWS, LOAD_TIME
from airflow_mlplatform.operators.etl import EtlOperator
from airflow_mlplatform.operators.etl_stages import CheckOperator, ExtractOperator, LoadOperator, TransformOperator
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.etl import Checks, Load, Source, Transform
from airflow_mlplatform.steps.engine import Stopped
from tests.unit.recorded_metrics import recording

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AIRFLOW__MLPLATFORM__POND", str(tmp_path / "pond"))
    monkeypatch.setenv("AIRFLOW__MLPLATFORM__STAGING", str(tmp_path / "staging"))
    monkeypatch.setenv("AIRFLOW__MLPLATFORM__RUNTIME", "local")
    settings.cache_clear()
    (tmp_path / "x.csv").write_text("id,name\n1,a\n2,b\n")
    yield tmp_path
    settings.cache_clear()


def context(run_id: str = "manual__2026-01-01T00:00:00+00:00") -> Any:
    events = defaultdict(lambda: SimpleNamespace(extra={}))
    return {"run_id": run_id, "ti": SimpleNamespace(map_index=-1), "outlet_events": events}


def etl(folder: Path, **more: Any) -> EtlOperator:
    arguments = {"extract": {"files": {"uri": "x.csv"}}, "load": {"uri": "pond://wine"}, "search_path": str(folder)}
    return EtlOperator(task_id="etl", **{**arguments, **more})


def test_result_and_asset_event(folder: Path) -> None:
    operator = etl(folder, transform=[{"sql": "SELECT id FROM input"}], checks={"unique": ["id"]})
    given = context()
    with recording() as recorder:
        result = operator.execute(given)
    assert result["rows"] == 2
    assert list(recorder.of(LOAD_ROWS).values()) == [2]
    assert [asset for _, asset in recorder.of(LOAD_TIME)] == ["pond_//wine"]
    assert (result["uri"], result["spec_uri"]) == (f"{folder}/pond/wine", "pond://wine")
    assert set(result) == {"uri", "rows", "bytes", "schema_hash", "spec_uri"}
    assert given["outlet_events"][Asset("pond://wine")].extra == result
    assert json.loads(json.dumps(result)) == result


def test_models_and_dicts_are_the_same(folder: Path) -> None:
    models = etl(
        folder,
        extract=Source.model_validate({"files": {"uri": "x.csv"}}),
        transform=(Transform(sql="SELECT id FROM input"),),
        checks=Checks(unique=("id",)),
        load=Load(uri="pond://wine/{{ ds }}"),
    )
    dicts = etl(
        folder,
        transform=[{"sql": "SELECT id FROM input"}],
        checks={"unique": ["id"]},
        load={"uri": "pond://wine/{{ ds }}"},
    )
    for field in EtlOperator.template_fields:
        assert getattr(models, field) == getattr(dicts, field)
        json.dumps(getattr(models, field))
    assert models.outlets == dicts.outlets == [Asset("pond://wine")]


def test_given_outlets_stay(folder: Path) -> None:
    assert etl(folder, outlets=[Asset("mine")]).outlets == [Asset("mine")]
    assert etl(folder, load={"uri": "{{ params.uri }}"}).outlets == []


def test_templates_are_rendered_everywhere(folder: Path) -> None:
    operator = etl(
        folder,
        extract=[{"name": "x", "files": {"uri": "{{ name }}.csv"}}],
        transform=[{"sql": "SELECT '{{ name }}' AS name FROM x"}],
        checks={"sql": [{"name": "n", "query": "SELECT count(*) FROM input WHERE name != '{{ name }}'"}]},
        load={"uri": "pond://{{ name }}"},
    )
    operator.render_template_fields({"name": "x"})  # type: ignore[arg-type]
    assert operator.execute(context())["uri"] == f"{folder}/pond/x"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"extract": {"files": {"uri": "gone.csv"}}}, r"gone\.csv: no file matches"),
        ({"extract": {"filez": {}}}, r"extract.*filez.*correct the arguments of the task"),
        ({"transform": [{"sql": "SELECT nope FROM input"}]}, "nope"),
        ({"checks": {"rows": {"min": 9}}}, "rows: 2, at least 9 wanted"),
        ({"extract": {"sql": {"connection": "missing", "query": "SELECT 1"}}}, "connection 'missing' is not there"),
        ({"memory": "lots"}, "memory 'lots' is no quantity"),
    ],
)
def test_lasting_mistakes_are_not_retried(folder: Path, more: dict[str, Any], reason: str) -> None:
    with pytest.raises(AirflowFailException, match=reason):
        etl(folder, **more).execute(context())


def test_containers_are_refused_while_the_dag_is_built(folder: Path) -> None:
    for step in ({"container": {"image": "busybox"}}, Transform.model_validate({"container": {"image": "busybox"}})):
        with pytest.raises(
            UnsupportedHere, match=r"task etl: a container transform \(image 'busybox'\) needs Kubernetes"
        ):
            etl(folder, transform=[step])
        with pytest.raises(UnsupportedHere, match="task t: a container"):
            TransformOperator(task_id="t", transforms=[step], inputs={"input": "e"})


def stages(folder: Path) -> dict[str, Any]:
    with DAG("dag", schedule=None):
        extract = ExtractOperator(task_id="e", source={"files": {"uri": "x.csv"}}, search_path=str(folder))
        transform = TransformOperator(
            task_id="t",
            transforms=[
                {"sql": "SELECT id FROM orders"},
                {"sql": "SELECT i.id, name FROM input i JOIN orders USING (id)"},
            ],
            inputs={"orders": "e"},
        )
        check = CheckOperator(task_id="c", checks={"rows": {"min": 1}}, input="t")
        load = LoadOperator(task_id="l", load={"uri": "pond://wine.parquet"}, input="t")
        extract >> transform >> check >> load
    return {"e": extract, "t": transform, "c": check, "l": load}


def test_stages(folder: Path) -> None:
    tasks, given = stages(folder), context()
    results = {name: task.execute(given) for name, task in tasks.items()}
    assert (results["e"]["rows"], results["l"]["rows"]) == (2, 2)
    assert given["outlet_events"][Asset("pond://wine.parquet")].extra == results["l"]
    assert list((folder / "staging").iterdir()) == []
    # cleared alone after it was done: the same result
    assert tasks["l"].execute(given) == results["l"]
    with pytest.raises(
        AirflowFailException, match="task t has staged nothing.*clear this run from the extract task on"
    ):
        tasks["c"].execute(given)
    with pytest.raises(AirflowFailException, match="clear this run from the extract task on"):
        tasks["l"].execute(context("another_run"))


def test_what_another_load_needs_stays(folder: Path) -> None:
    with DAG("dag", schedule=None):
        extract = ExtractOperator(task_id="e", source={"files": {"uri": "x.csv"}}, search_path=str(folder))
        loads = [LoadOperator(task_id=f"l{n}", load={"uri": f"pond://{n}"}, input="e") for n in range(2)]
        extract >> loads
    for task in (extract, *loads):
        task.execute(context())
    assert {name for name in os.listdir(folder / "pond") if not name.startswith(".")} == {"0", "1"}


def test_connections(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    with sqlite3.connect(folder / "shop.db") as database:
        database.execute("CREATE TABLE t AS SELECT 7 AS id")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "sqlite", "host": str(folder / "shop.db")}))
    result = etl(folder, extract={"sql": {"connection": "shop", "query": "SELECT * FROM t"}}).execute(context())
    assert result["rows"] == 1


def test_on_kill_stops_the_query(folder: Path) -> None:
    operator = etl(
        folder, transform=[{"sql": "SELECT count(*) AS n FROM range(1_000_000_000_000) WHERE md5(range::VARCHAR) = ''"}]
    )
    threading.Timer(0.5, operator.on_kill).start()
    with pytest.raises(Stopped, match="nothing was published"):
        operator.execute(context())
    assert not (folder / "pond").exists()


def test_operators_can_be_pickled_and_killed_before_they_start(folder: Path) -> None:
    operator = pickle.loads(pickle.dumps(etl(folder)))
    operator.on_kill()
    assert operator.execute(context())["rows"] == 2


def test_importing_operators_is_cheap() -> None:
    code = (
        "import sys, airflow_mlplatform.operators.etl, airflow_mlplatform.operators.etl_stages;"
        "print([name for name in ('duckdb', 'pyarrow', 'adbc_driver_manager', 'pandas') if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
