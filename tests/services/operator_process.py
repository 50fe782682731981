"""Runs one operator in a process of its own, as a worker does, so that a test may kill that process and try again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any


@dataclass
class TaskInstance:
    """What operators ask of the task instance."""

    folder: Path
    task: Any
    try_number: int = 1
    max_tries: int = 0
    dag_id: str = "a_dag"
    run_id: str = "manual__1"
    task_id: str = "a_task"
    map_index: int = -1
    log_url: str = "http://airflow/a_task"

    def xcom_push(self, key: str, value: Any) -> None:
        """Leave the value where the test finds it."""
        (self.folder / f"xcom-{key}.json").write_text(json.dumps(value))


@dataclass
class OperatorProcess:
    """Tries of one task, each in its own process.

    :param operator: ``module:Class``.
    :param arguments: its keyword arguments; JSON.
    :param folder: for its log, XComs and result.
    :param environment: environment variables, such as Airflow connections and settings.
    """

    operator: str
    arguments: dict[str, Any]
    folder: Path
    environment: dict[str, str]
    task_instance: dict[str, Any] = field(default_factory=dict)
    tries: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self, **task_instance: Any) -> subprocess.Popen[bytes]:
        """Start the next try and return its process."""
        self.tries += 1
        order = {
            "operator": self.operator,
            "arguments": self.arguments,
            "ti": {"try_number": self.tries} | self.task_instance | task_instance,
            "folder": str(self.folder),
        }
        environment = os.environ | {"AIRFLOW__MLPLATFORM__RUNTIME": "local"} | self.environment
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.services.operator_process", json.dumps(order)],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
            )
        return self.process

    def run(self, **task_instance: Any) -> Any:
        """Run the next try to its end and return its result; ``{"error": …, "kind": …}`` if it failed."""
        result = self.folder / "result.json"
        result.unlink(missing_ok=True)
        self.start(**task_instance).wait(timeout=300)
        assert result.exists(), self.output
        return json.loads(result.read_text())

    @property
    def log(self) -> Path:
        """What all tries printed."""
        return self.folder / "task.log"

    @property
    def output(self) -> str:
        """The text of the log."""
        return self.log.read_text()


def main(order: dict[str, Any]) -> None:
    """Execute the operator and leave its result."""
    folder = Path(order["folder"])
    module, name = order["operator"].split(":")
    operator = getattr(import_module(module), name)(task_id="a_task", **order["arguments"])
    context = {
        "ti": TaskInstance(folder=folder, task=operator, **order["ti"]),
        "dag": SimpleNamespace(fileloc=str(folder / "dag.py")),
        "triggering_asset_events": {},
        "inlet_events": {},
    }
    # As Airflow's task runner does.
    signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
    try:
        result: Any = operator.execute(context)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test shall see it
        result = {"error": str(error), "kind": type(error).__name__}
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
