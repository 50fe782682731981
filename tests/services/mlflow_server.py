"""A real MLflow server on SQLite: one for the whole test session, or one that a test may stop and start."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from tests.parts import require
from tests.services.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_TIMEOUT = 240.0


@dataclass
class MlflowServer:
    """`mlflow server` with its database and artifacts in one folder; it can be stopped and started again.

    :param folder: where its database, artifacts and log lie.
    :param port: the port it keeps over restarts.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What Airflow needs to find this server as the connection `mlflow_default`."""
        return {"AIRFLOW_CONN_MLFLOW_DEFAULT": f'{{"conn_type": "mlflow", "host": "{self.url}"}}'}

    def start(self) -> MlflowServer:
        """Start it and wait until it answers."""
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                stdout=log,
                stderr=log,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.fail("mlflow server did not start:\n" + (self.folder / "server.log").read_text()[-3000:])
            time.sleep(0.1)
        return self

    def _command(self) -> list[str]:
        stores = {
            "--backend-store-uri": f"sqlite:///{self.folder}/mlflow.db",
            "--artifacts-destination": str(self.folder / "artifacts"),
        }
        address = {"--host": "127.0.0.1", "--port": str(self.port), "--workers": "1"}
        options = [part for option in (stores | address).items() for part in option]
        return [sys.executable, "-m", "mlflow", "server", *options]

    def stop(self) -> None:
        """Stop it with all its workers; its data stays."""
        if self.process is None:
            return
        tree = [psutil.Process(self.process.pid)] if self.process.poll() is None else []
        tree += tree[0].children(recursive=True) if tree else []
        for member in tree:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()
        self.process = None

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=1).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A running MLflow server for all tests; name experiments and models so that tests do not meet."""
    require(importlib.util.find_spec("mlflow"), "MLflow is missing; install it: uv sync --extra local")
    server = MlflowServer(tmp_path_factory.mktemp("mlflow")).start()
    yield server
    server.stop()


@pytest.fixture
def own_mlflow_server(tmp_path: Path) -> Iterator[MlflowServer]:
    """An MLflow server of this test alone, which it may stop and start."""
    require(importlib.util.find_spec("mlflow"), "MLflow is missing; install it: uv sync --extra local")
    folder = tmp_path / "mlflow"
    folder.mkdir()
    server = MlflowServer(folder).start()
    yield server
    server.stop()
