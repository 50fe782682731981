"""A whole Airflow of a test's own: home folder, SQLite, and its components as real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote

import httpx
import psutil
import pytest

from tests.services.mlflow_server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")

Component = Literal["api-server", "scheduler", "dag-processor", "triggerer"]
ALL: tuple[Component, ...] = ("api-server", "scheduler", "dag-processor", "triggerer")
START_TIMEOUT = 120.0


def wait_for(condition: Callable[[], T | None], what: str, timeout: float = 60.0) -> T:
    """Ask again and again until the condition gives something true; fail the test if it never does.

    :param condition: asked; its first true answer is returned.
    :param what: what is waited for, for the message.
    :param timeout: seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout:.0f} s for {what}; last answer: {found!r}")
        time.sleep(0.2)


@dataclass
class AirflowHome:
    """An Airflow in a folder. DAG files go into :attr:`dags`; they are parsed every second.

    :param folder: home folder.
    :param environment: more environment variables for every component: connections, settings.
    :param python: the interpreter whose Airflow runs.
    """

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable
    port: int = field(default_factory=free_port)
    processes: dict[Component, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dags.mkdir(parents=True, exist_ok=True)

    @property
    def dags(self) -> Path:
        """The dags folder."""
        return self.folder / "dags"

    @property
    def url(self) -> str:
        """Base URL of the API server."""
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def variables(self) -> dict[str, str]:
        """The environment of its processes; nothing of an Airflow outside leaks in."""
        own = {
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of this test only, long enough for what SHA-512 asks",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__FERNET_KEY": "",
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": '[{"name": "dags-folder", "classpath": '
            '"airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {"refresh_interval": 1}}]',
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "1",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.folder}/airflow.db",
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "1",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            # How soon another triggerer takes over from one that was killed.
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
            "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(self.folder)]),
        }
        outside = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "PYTEST"))}
        return {**outside, **own, **self.environment}

    def migrate(self, template: Path | None = None) -> AirflowHome:
        """Make the database, or copy one that was made already.

        :param template: a database that :meth:`migrate` made for the same Airflow; made here if missing.
        """
        database = self.folder / "airflow.db"
        if template is not None and template.exists():
            shutil.copy(template, database)
            return self
        self.command("db", "migrate")
        if template is not None:
            shutil.copy(database, template)
        return self

    def command(self, *arguments: str, timeout: float = 120.0) -> str:
        """Run an ``airflow`` command; its standard output.

        :raises AssertionError: if it fails, with its standard error.
        """
        done = subprocess.run(
            [self.python, "-m", "airflow", *arguments],
            env=self.variables, cwd=self.folder, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"airflow {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, *components: Component) -> AirflowHome:
        """Start components (all if none is named) and wait until they are healthy."""
        for component in components or ALL:
            with (self.folder / f"{component}.log").open("ab") as log:
                self.processes[component] = subprocess.Popen(
                    [self.python, "-m", "airflow", component],
                    env=self.variables, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
        wait_for(self._healthy, f"{', '.join(components or ALL)} to be healthy", START_TIMEOUT)
        return self

    def stop(self, *components: Component) -> None:
        """End components (all if none is named) the friendly way, with all their children."""
        self._end(signal.SIGTERM, components)

    def kill(self, *components: Component) -> None:
        """``kill -9`` components (all if none is named) with all their children."""
        self._end(signal.SIGKILL, components)

    def _end(self, how: signal.Signals, components: tuple[Component, ...]) -> None:
        for component in components or tuple(self.processes):
            process = self.processes.pop(component, None)
            if process is None:
                continue
            tree = _tree(process.pid)
            if how is signal.SIGTERM:
                process.terminate()
                psutil.wait_procs(tree, timeout=15)
            for member in tree:
                if member.is_running():
                    member.kill()
            process.wait()

    def _healthy(self) -> bool:
        for component, process in self.processes.items():
            if process.poll() is not None:
                pytest.fail(f"airflow {component} ended with {process.returncode}:\n{self.output(component)[-4000:]}")
        try:
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
        except (httpx.TransportError, ValueError):
            return False
        # A killed component looks healthy for some seconds; a new one is there once its process owns a running job.
        return all(
            health.get(component.replace("-", "_"), {}).get("status") == "healthy"
            for component in self.processes
            if component != "api-server"
        )

    def output(self, component: Component) -> str:
        """What a component has written so far."""
        return (self.folder / f"{component}.log").read_text(errors="replace")

    @cached_property
    def api(self) -> httpx.Client:
        """A client of the REST API, signed in as admin."""
        token = httpx.get(f"{self.url}/auth/token", timeout=30).json()["access_token"]
        return httpx.Client(base_url=f"{self.url}/api/v2", headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def get(self, path: str, **params: Any) -> Any:
        """GET below ``/api/v2``; ``None`` where it is not found."""
        answer = self.api.get(path, params=params)
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Any other request below ``/api/v2``."""
        answer = self.api.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def import_errors(self) -> list[str]:
        """The stack traces of files that cannot be parsed."""
        return [error["stack_trace"] for error in self.get("/importErrors")["import_errors"]]

    def wait_for_dag(self, dag_id: str) -> None:
        """Wait until the DAG has been parsed."""

        def parsed() -> Any:
            errors = self.import_errors()
            assert not errors, errors[0]
            return self.get(f"/dags/{dag_id}")

        wait_for(parsed, f"DAG {dag_id} to be parsed")

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The runs of a DAG, oldest first."""
        answer = self.get(f"/dags/{dag_id}/dagRuns", order_by="id", limit=100)
        return list(answer["dag_runs"]) if answer else []

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run by hand; its id."""
        return str(
            self.send("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf or {}})["dag_run_id"]
        )

    def tasks(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """The task instances of a run by task id; mapped ones as ``task_id[index]``."""
        answer = self.get(f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances", limit=100)
        return {
            ti["task_id"] if ti["map_index"] < 0 else f"{ti['task_id']}[{ti['map_index']}]": ti
            for ti in answer["task_instances"]
        }

    def states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """The state of each task instance of a run."""
        return {name: ti["state"] for name, ti in self.tasks(dag_id, run_id).items()}

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 90.0) -> str:
        """Wait until a run has ended; its state."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"

        def ended() -> str | None:
            state = str(self.get(path)["state"])
            return state if state in ("success", "failed") else None

        return wait_for(ended, f"run {run_id} of {dag_id} to end", timeout)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """An XCom value; ``None`` if there is none."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/xcomEntries/{key}"
        entry = self.get(path, map_index=map_index, deserialize=True)
        return entry["value"] if entry else None

    def task_log(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1, map_index: int = -1) -> str:
        """What a task logged, worker and triggerer together."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}/logs/{attempt}"
        answer = self.get(path, map_index=map_index, full_content=True)
        return "\n".join(_text(line) for line in answer["content"]) if answer else ""


def _text(line: dict[str, Any]) -> str:
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or ()]
    return "\n".join([str(line.get("event", line)), *errors])


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return []


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the database of a new Airflow is kept, once one has been made; copying it saves its half minute."""
    return tmp_path_factory.mktemp("airflow-database") / "airflow.db"


@pytest.fixture
def airflow_home(tmp_path: Path, migrated_database: Path) -> Iterator[AirflowHome]:
    """An Airflow that is set up and not started; all its processes end with the test."""
    home = AirflowHome(tmp_path / "airflow").migrate(migrated_database)
    yield home
    home.kill()
