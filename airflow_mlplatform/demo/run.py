"""The demonstration: the wine specs, from raw data to a model that answers."""

from __future__ import annotations

import shutil
import signal
import threading
from functools import partial
from importlib import resources
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from airflow_mlplatform.demo.airflow_api import AirflowApi, DagRun
from airflow_mlplatform.demo.progress import Progress
from airflow_mlplatform.demo.stack import Stack
from airflow_mlplatform.exceptions import MlplatformError, ProcessFailed

__all__ = ["run_demo"]

PIPELINES = ("wine-etl", "wine-training", "wine-deployment")
FINISHED = ("success", "failed")
RUN_TIMEOUT = 600.0
SAMPLES = 6


def run_demo(folder: Path, *, stay: bool) -> int:
    """Set everything up in a folder, run the wine pipelines, show the answers of the served model.

    :param folder: made anew; what a former run left in it, processes included, is removed.
    :param stay: keep everything running until Ctrl-C.
    :returns: the exit code.
    """
    console = Console()
    stack = Stack(folder)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _clean(stack)
        with Progress(console) as progress:
            _prepare(stack)
            stack.start(progress.say)
            api = AirflowApi(stack.airflow_url, "admin", stack.password)
            progress.say(f"Airflow is at {stack.airflow_url} (admin / {stack.password}), MLflow at {stack.mlflow_url}")
            runs = _run_pipelines(stack, api, progress)
        _show_result(console, stack, api, runs)
        if stay:
            console.print("\nPress Ctrl-C to stop everything.")
            _wait_for_interrupt(stack)
    except KeyboardInterrupt:
        console.print("\nstopping")
    except (MlplatformError, httpx.HTTPError) as error:
        console.print(f"[bold red]The demo failed:[/bold red] {error}", highlight=False)
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stack.stop()
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


def _clean(stack: Stack) -> None:
    """Stop what a former run left behind and begin with an empty folder."""
    marker = stack.folder / ".mlplatform-demo"
    if stack.folder.exists() and any(stack.folder.iterdir()) and not marker.exists():
        raise MlplatformError(f"{stack.folder} is no folder of a former demo; choose another one with --folder")
    stack.stop()
    shutil.rmtree(stack.folder, ignore_errors=True)
    stack.folder.mkdir(parents=True)
    marker.touch()


def _prepare(stack: Stack) -> None:
    wine = _wine()
    shutil.copytree(wine, stack.specs / "wine", ignore=shutil.ignore_patterns("raw", "__pycache__"))
    shutil.copytree(wine / "raw", stack.pond / "raw" / "wine")


def _wine() -> Path:
    packaged = Path(str(resources.files("airflow_mlplatform"))) / "demo" / "wine"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "dag_specs" / "wine"


def _run_pipelines(stack: Stack, api: AirflowApi, progress: Progress) -> dict[str, DagRun]:
    """Start the first pipeline and watch the others start by themselves."""
    stack.wait_until("Airflow lists the pipelines", lambda: set(PIPELINES) <= api.dag_ids())
    progress.say(
        f"{PIPELINES[0]} starts by its schedule; the data it loads and the model that is registered start the rest"
    )
    runs = {}
    for dag_id in PIPELINES:
        watch = partial(_watch, api, progress, dag_id)
        runs[dag_id] = stack.wait_until(f"{dag_id} finishes", watch, RUN_TIMEOUT)
        if runs[dag_id].state == "failed":
            raise ProcessFailed(_why(stack, api, runs[dag_id]))
    return runs


def _watch(api: AirflowApi, progress: Progress, dag_id: str) -> DagRun | None:
    runs = api.runs(dag_id)
    if not runs:
        return None
    progress.show(runs[0], api.tasks(runs[0]))
    return runs[0] if runs[0].state in FINISHED else None


def _why(stack: Stack, api: AirflowApi, run: DagRun) -> str:
    failed = [task for task in api.tasks(run) if task.state == "failed"]
    logs = [f"{task.task_id}:\n{api.log(run, task.task_id, map_index=task.map_index)[-3000:]}" for task in failed]
    return f"{run.dag_id} failed; logs lie in {stack.folder}/airflow/logs\n" + "\n".join(logs)


def _show_result(console: Console, stack: Stack, api: AirflowApi, runs: dict[str, DagRun]) -> None:
    load = api.xcom(runs["wine-etl"], "load")
    best = api.xcom(runs["wine-training"], "select")
    deployed = api.xcom(runs["wine-deployment"], "deploy")
    console.print(_predictions(load["uri"], deployed["endpoint_url"]))
    metrics = ", ".join(f"{name} {value:.3f}" for name, value in sorted(best["metrics"].items()))
    console.print(f"best of {best['selected_by']['of']} trainings: {metrics}", highlight=False)
    places = {
        "Airflow": f"{stack.airflow_url}  (admin / {stack.password})",
        "MLflow": stack.mlflow_url,
        "the model": f"{deployed['endpoint_url']}/invocations  (version {deployed['version']})",
        "the specs": f"{stack.specs}  (change one, or drop another one in)",
    }
    for name, place in places.items():
        console.print(f"  {name:<10} {place}", highlight=False, soft_wrap=True)


def _predictions(data: str, endpoint: str) -> Table:
    """Ask the served model for wines from the data pond and set its answers beside the truth."""
    rows = _sample(data)
    inputs = [{name: value for name, value in row.items() if name != "target"} for row in rows]
    answer = httpx.post(f"{endpoint}/invocations", json={"dataframe_records": inputs}, timeout=60)
    answer.raise_for_status()
    table = Table("wine", "alcohol", "truth", "prediction", title="what the served model says")
    for number, (row, prediction) in enumerate(zip(rows, _values(answer.json()), strict=True), start=1):
        table.add_row(str(number), str(row["alcohol"]), str(row["target"]), str(prediction))
    return table


def _sample(data: str) -> list[dict[str, Any]]:
    import duckdb

    query = f"from read_parquet($file) using sample reservoir({SAMPLES} rows) repeatable (7)"
    with duckdb.connect() as connection:
        result = connection.execute(query, {"file": data})
        columns = [column[0] for column in result.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in result.fetchall()]


def _values(answer: dict[str, Any]) -> list[Any]:
    predictions = answer["predictions"]
    return [next(iter(row.values())) if isinstance(row, dict) else row for row in predictions]


def _wait_for_interrupt(stack: Stack) -> None:
    never = threading.Event()
    while not never.wait(2):
        stack.processes.check()
