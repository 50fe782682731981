"""Airflow, MLflow and model serving on this machine, in one folder, on free ports."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx

from airflow_mlplatform.demo.processes import Processes, tail
from airflow_mlplatform.exceptions import ProcessFailed, ServiceUnavailable
from airflow_mlplatform.runtime.model_server import free_port

__all__ = ["Stack"]

AIRFLOW_PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
START_TIMEOUT = 180.0
POLL = 0.3
T = TypeVar("T")


@dataclass
class Stack:
    """Everything that the specs need, started with :meth:`start` and gone after :meth:`stop`.

    :param folder: where databases, logs, the pond and the specs lie; made if missing.
    :param parallelism: tasks that may run at the same time.
    :param refresh_interval: seconds between two looks at the folder of specs.
    """

    folder: Path
    parallelism: int = 4
    refresh_interval: int = 3
    airflow_port: int = field(default_factory=free_port)
    mlflow_port: int = field(default_factory=free_port)
    serving_port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(9), repr=False)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.processes = Processes(self.folder)
        self._jwt_secret = secrets.token_urlsafe(48)
        self._log_ports = free_port(), free_port()

    @property
    def specs(self) -> Path:
        """The folder of specs."""
        return self.folder / "specs"

    @property
    def pond(self) -> Path:
        """The data pond."""
        return self.folder / "pond"

    @property
    def airflow_url(self) -> str:
        """Airflow's address."""
        return f"http://127.0.0.1:{self.airflow_port}"

    @property
    def mlflow_url(self) -> str:
        """MLflow's address."""
        return f"http://127.0.0.1:{self.mlflow_port}"

    @property
    def serving_url(self) -> str:
        """Address of the served models."""
        return f"http://127.0.0.1:{self.serving_port}"

    def environment(self) -> dict[str, str]:
        """Return the environment of all parts: this process' own, with Airflow and MLflow configured."""
        home = self.folder / "airflow"
        bundle = {
            "name": "specs",
            "classpath": "airflow_mlplatform.bundle.SpecBundle",
            "kwargs": {"path": str(self.specs), "refresh_interval": self.refresh_interval},
        }
        ours = ("AIRFLOW", "MLFLOW", "PYTHONDONTWRITEBYTECODE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return inherited | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
            "PYTHONUNBUFFERED": "1",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps({"conn_type": "mlflow", "host": self.mlflow_url}),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(self.parallelism),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "1",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.airflow_url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
            "AIRFLOW__API__PORT": str(self.airflow_port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__BASE_URL": self.airflow_url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": self._jwt_secret,
            # Several processes write to one SQLite file; waiting for each other is better than failing.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=60",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(self._log_ports[0]),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(self._log_ports[1]),
            # A supervisor that misses the end of its task notices it at the next heartbeat, 5 s later by default.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__SCHEDULER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "30",
            "AIRFLOW__TRIGGERER__DEFAULT_CAPACITY": "100",
            "AIRFLOW__MLPLATFORM__RUNTIME": "local",
            "AIRFLOW__MLPLATFORM__STATE_DIR": str(self.folder / "state"),
            "AIRFLOW__MLPLATFORM__POND": str(self.pond),
            "AIRFLOW__MLPLATFORM__SERVING_ADDRESS": f"127.0.0.1:{self.serving_port}",
            "AIRFLOW__MLPLATFORM__REGISTRY_POLL_INTERVAL": "2",
        }

    def start(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Start all parts and wait until they answer.

        :param say: told what happens, in a few words.
        :raises ProcessFailed: if a part ends.
        :raises ServiceUnavailable: if a part does not answer in time.
        """
        for folder in (self.specs, self.pond, self.folder / "airflow", self.folder / "mlflow"):
            folder.mkdir(parents=True, exist_ok=True)
        say("starting MLflow")
        self._start_mlflow()
        say("setting up Airflow's database")
        self._migrate()
        say("starting Airflow: " + ", ".join(AIRFLOW_PARTS))
        self.start_airflow(AIRFLOW_PARTS)
        self.wait_until("MLflow answers", lambda: _answers(f"{self.mlflow_url}/health"))
        self.wait_until("Airflow answers", lambda: _answers(f"{self.airflow_url}/api/v2/monitor/health"))

    def _start_mlflow(self) -> None:
        home = self.folder / "mlflow"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.mlflow_port)]
        command += ["--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--workers", "1"]
        command += ["--serve-artifacts", "--artifacts-destination", f"{home}/artifacts"]
        self.processes.start("mlflow", command, self.environment(), home)

    def _migrate(self) -> None:
        home = self.folder / "airflow"
        passwords = home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({"admin": self.password}), "utf-8")
        log = self.processes.log("migrate")
        with log.open("wb") as output:
            done = subprocess.run(
                [sys.executable, "-m", "airflow", "db", "migrate"],
                env=self.environment(), cwd=home, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False,
            )  # fmt: skip
        if done.returncode:
            raise ProcessFailed(f"Airflow's database could not be set up; {log} ends:\n{tail(log)}", done.returncode)

    def start_airflow(self, parts: Iterable[str]) -> None:
        """Start some of Airflow's parts."""
        for part in parts:
            command = [sys.executable, "-m", "airflow", part]
            self.processes.start(part, command, self.environment(), self.folder / "airflow")

    def wait_until(self, what: str, condition: Callable[[], T | None], timeout: float = START_TIMEOUT) -> T:
        """Wait until a condition gives something true, as long as all parts run, and return that.

        :param what: the condition in words, for the error.
        :param timeout: seconds.
        :raises ProcessFailed: if a part ends meanwhile.
        :raises ServiceUnavailable: if it takes too long.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.processes.check()
            found = condition()
            if found:
                return found
            time.sleep(POLL)
        raise ServiceUnavailable(f"waited {timeout:.0f} s in vain until {what}; look into {self.folder}/logs")

    def stop(self) -> None:
        """Stop everything, the served models too."""
        from airflow_mlplatform.runtime.serving import LocalServing

        self.processes.stop()
        LocalServing(self.folder / "state", f"127.0.0.1:{self.serving_port}").stop()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False
