"""A whole stack, as `make demo` starts it, for the tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_mlplatform.demo.airflow_api import AirflowApi, DagRun
from airflow_mlplatform.demo.stack import Stack

WINE = Path(__file__).parents[2] / "dag_specs" / "wine"
RUN_TIMEOUT = 600.0


@dataclass
class Platform:
    """The stack and a client of its Airflow."""

    stack: Stack
    api: AirflowApi

    def write_spec(self, name: str, text: str) -> Path:
        """Drop a spec into the folder, as a user does."""
        path = self.stack.specs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def run_number(self, dag_id: str, number: int) -> DagRun:
        """Wait until the DAG has finished its run of that number, counted from 1."""

        def finished() -> DagRun | None:
            runs = self.api.runs(dag_id)
            done = len(runs) >= number and runs[number - 1].state in ("success", "failed")
            return runs[number - 1] if done else None

        return self.stack.wait_until(f"{dag_id} has finished run {number}", finished, RUN_TIMEOUT)

    def explain(self, run: DagRun) -> str:
        """What a person would look at when a run is not as it should be."""
        tasks = self.api.tasks(run)
        failed = [task for task in tasks if task.state in ("failed", "up_for_retry")]
        return f"{tasks}\n" + "\n".join(self.api.log(run, task.task_id, map_index=task.map_index) for task in failed)

    def states(self, run: DagRun) -> dict[str, set[str]]:
        """The states of each task of a run, over its map indexes."""
        states: dict[str, set[str]] = {}
        for task in self.api.tasks(run):
            states.setdefault(task.task_id, set()).add(task.state)
        return states

    def source(self, dag_id: str) -> str:
        """What the Code tab shows."""
        return str(self.api.get(f"/dagSources/{dag_id}")["content"])

    def dag(self, dag_id: str) -> dict[str, Any]:
        """The details of a DAG."""
        return self.api.get(f"/dags/{dag_id}/details")


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    stack = Stack(tmp_path_factory.mktemp("stack"), refresh_interval=1)
    shutil.copytree(WINE / "raw", stack.pond / "raw" / "wine")
    try:
        stack.start()
        yield Platform(stack, AirflowApi(stack.airflow_url, "admin", stack.password))
    finally:
        stack.stop()
