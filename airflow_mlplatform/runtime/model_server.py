"""One MLflow scoring process: started in its own session, ready or dead, stopped with all its children."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from airflow_mlplatform.exceptions import ConfigurationError, ServingFailed
from airflow_mlplatform.runtime.local import Identity, inherited_environment
from airflow_mlplatform.runtime.processes import listens, stop_group
from airflow_mlplatform.runtime.server_log import explain, tail
from airflow_mlplatform.runtime.serving_files import EnvManager

__all__ = [
    "HOST",
    "Invocation",
    "ModelServer",
    "ModelUnfit",
    "ServerCommand",
    "free_port",
    "mlflow_scoring",
    "serving_environment",
]

HOST = "127.0.0.1"
POLL = 0.1
MLFLOW_PREFIXES = ("MLFLOW_TRACKING_", "DATABRICKS_")


@dataclass(frozen=True)
class Invocation:
    """How a server is started.

    :param argv: the command; no shell.
    :param env: environment variables that it needs beside the inherited ones.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


ServerCommand = Callable[[Path, int, EnvManager], Invocation]
"""Tells how to serve a model folder on a port of the loopback interface."""


def mlflow_scoring(folder: Path, port: int, env_manager: EnvManager) -> Invocation:
    """Tell how MLflow serves a model folder.

    For this Python it is what ``mlflow models serve`` itself ends up starting, without the time that its command
    line takes to get there (docs/decisions/0005-local-serving.md). Other environments are for that command to build.
    """
    env = {
        "UVICORN_ACCESS_LOG": "false",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
    }
    if env_manager == "local":
        argv = ("uvicorn", "mlflow.pyfunc.scoring_server.app:app", "--host", HOST, "--port", str(port))
        return Invocation((sys.executable, "-m", *argv), env | {"__pyfunc_model_path__": str(folder)})
    options = ("--env-manager", env_manager, "--host", HOST, "--port", str(port))
    return Invocation((sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(folder), *options), env)


def serving_environment() -> dict[str, str]:
    """Return this process's environment without what opens Airflow or MLflow: a model's own code runs in the server."""
    return {name: value for name, value in inherited_environment().items() if not name.startswith(MLFLOW_PREFIXES)}


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class ModelUnfit(ServingFailed, ConfigurationError):
    """A model that cannot be served in its environment, however often it is tried."""


class ModelServer:
    """A model server process, our child or one that a former front left behind.

    :param process: the leader of its process group.
    :param port: its port on the loopback interface.
    :param log: file that holds its output.
    :param child: the handle, where it is our child.
    """

    def __init__(self, process: Identity, port: int, log: Path, child: subprocess.Popen[bytes] | None = None) -> None:
        self.process = process
        self.port = port
        self.log = log
        self._child = child

    @classmethod
    def start(cls, invocation: Invocation, port: int, log: Path, mark: Mapping[str, str]) -> ModelServer:
        """Start the process; it outlives us.

        :param mark: environment variables by which it is found again if we die before we recorded it.
        :raises ServingFailed: if it cannot be started at all.
        """
        env = {**serving_environment(), **invocation.env, **mark}
        try:
            with log.open("wb") as output:
                child = subprocess.Popen(
                    invocation.argv,
                    env=env,
                    cwd=log.parent,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            return cls(Identity(child.pid, psutil.Process(child.pid).create_time()), port, log, child)
        except (OSError, psutil.NoSuchProcess) as error:
            raise ServingFailed(f"cannot start the model server {invocation.argv[0]}: {error}") from error

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.port}"

    def alive(self) -> bool:
        """Whether the process runs."""
        # Asking the handle also reaps a dead child.
        return self._child.poll() is None if self._child else self.process.alive

    async def wait_ready(self, deadline: float) -> None:
        """Wait until it answers.

        :param deadline: when to give up, on :func:`time.monotonic`'s clock.
        :raises ServingFailed: if it dies before, or is not ready by then; with the reason and the end of its log.
        """
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
            while not await self._answers(client):
                if not self.alive():
                    raise self.failure(f"ended {self._how()} before it was ready")
                if time.monotonic() >= deadline:
                    raise self.failure("was not ready in time")
                await asyncio.sleep(POLL)

    async def _answers(self, client: httpx.AsyncClient) -> bool:
        with suppress(httpx.TransportError):
            answer = await client.get(f"{self.url}/ping")
            # Somebody else may have taken the port after we chose it.
            return answer.status_code == 200 and listens(self.process.pid, self.port)
        return False

    def _how(self) -> str:
        code = self._child.returncode if self._child else None
        if code is None:
            return "without a trace"
        return f"with exit code {code}" if code >= 0 else f"by signal {-code}"

    def failure(self, what: str) -> ServingFailed:
        """Return the error that says what happened, why as far as the log tells, and how the log ends."""
        log = tail(self.log)
        cause = explain(log)
        kind = ModelUnfit if cause and cause.lasting else ServingFailed
        because = f": {cause.text}" if cause else ""
        return kind(f"the model server {what}{because}\nThe end of its log ({self.log}):\n{log or '(empty)'}")

    async def stop(self, grace: float = 10.0) -> None:
        """Stop the whole process group, by force after ``grace`` seconds."""
        if self._child is None and not self.process.alive:
            return
        stopping = asyncio.create_task(asyncio.to_thread(stop_group, self.process.pid, grace))
        while not stopping.done():
            self.alive()
            await asyncio.wait({stopping}, timeout=POLL)
        await stopping
        self.alive()
