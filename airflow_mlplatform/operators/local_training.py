"""The story of one training on this machine: find or make the run and the process, follow, close, tell."""

from __future__ import annotations

import os
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.clients.http import drive
from airflow_mlplatform.exceptions import ProcessFailed
from airflow_mlplatform.runtime.local import LocalProcess, inherited_environment
from airflow_mlplatform.runtime.process_output import Tail
from airflow_mlplatform.settings import settings
from airflow_mlplatform.training.tracked_run import RunResult, Work, close, find_or_create, result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_mlplatform.clients.mlflow import MlflowClient, Run
    from airflow_mlplatform.hooks.mlflow import MlflowHook
    from airflow_mlplatform.runtime.mlflow_project import ProjectCall
    from airflow_mlplatform.training.provenance import Provenance

__all__ = ["LocalTraining"]

KILL_GRACE = 3.0


@dataclass
class LocalTraining:
    """One training, whose MLflow run and process are the task's: a later try goes on with them.

    :param work: what it does, for MLflow.
    :param call: what it does, as a command.
    :param origin: whose it is.
    :param env: environment variables that the spec gives it, with their values.
    :param hook: MLflow's hook.
    :param log: the task's log.
    """

    work: Work
    call: ProjectCall
    origin: Provenance
    env: Mapping[str, str] = field(repr=False)
    hook: MlflowHook
    log: Any
    _run_id: str = ""
    _process: LocalProcess | None = None
    _killed: bool = False

    def run(self, client: MlflowClient, tell_url: Callable[[str], None]) -> RunResult:
        """Train and return the result.

        :param tell_url: told the page of the MLflow run, as soon as there is one.
        :raises ProcessFailed: if the project failed or vanished.
        """
        run = drive(find_or_create(self.work, self.origin, self.log, _give_up), client.http)
        self._run_id = run.run_id
        url = self.hook.run_url(run)
        tell_url(url)
        self.log.info("MLflow run %s: %s", run.run_id, url)
        self._follow(client, run)
        return drive(result_of(run.run_id, self.hook.run_url), client.http)

    def stop(self) -> None:
        """Stop the project and close its run; the next try opens it again.

        :raises ServiceError: if MLflow cannot be told.
        """
        self._killed = True
        if self._process is not None:
            self._process.stop(KILL_GRACE)
        if self._run_id:
            with self.hook.client() as client:
                drive(close(self._run_id, "KILLED", "the Airflow task was killed"), client.http)

    def _follow(self, client: MlflowClient, run: Run) -> None:
        self._process = self._ensure(run) if run.active else LocalProcess.attach(_folder(run.run_id))
        if self._process is None:
            if run.status == "FAILED":
                raise ProcessFailed(f"MLflow run {run.run_id} has failed already in this try")
            return
        tail = Tail()
        for line in self._process.follow():
            self.log.info("%s", line)
            tail.add(line)
        self._interpret(client, self._process, tail)

    def _ensure(self, run: Run) -> LocalProcess:
        folder = _folder(run.run_id)
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = self.call.command(run.run_id, run.experiment_id)
        return LocalProcess.ensure(folder, command, self._environment() | self._own_packages(folder), folder.parent)

    def _interpret(self, client: MlflowClient, process: LocalProcess, tail: Tail) -> None:
        if self._killed:
            process.forget()
            raise ProcessFailed(f"MLflow run {self._run_id} was stopped because its Airflow task was killed")
        code, run = process.exit_code, client.get_run(self._run_id)
        if code is None and run.active:
            raise ProcessFailed(
                f"the project of MLflow run {run.run_id} vanished without an exit code (out of memory, or the machine "
                "went down); the next try continues the same run"
            )
        if code or run.status in ("FAILED", "KILLED"):
            drive(close(self._run_id, "FAILED" if code else run.status, tail.reason), client.http)
            process.forget()
            raise ProcessFailed(
                f"MLflow project {self.call.uri} ended with exit code {code}: {tail.reason}\n"
                f"Its run is {run.run_id}; its last lines:\n{tail}",
                code,
            )
        if run.active:
            client.update_run(run.run_id, "FINISHED")
        process.forget()

    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        ours = {"PATH": path, "PYTHONUNBUFFERED": "1", "GIT_TERMINAL_PROMPT": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
        return inherited_environment() | ours | _s3_environment() | self.hook.environment() | dict(self.env)

    def _own_packages(self, folder: Path) -> dict[str, str]:
        # MLflow takes a folder that another run is still filling, or that a killed one left behind, for a ready one.
        image = self.call.environment == "image"
        return {} if image else {"MLFLOW_ENV_ROOT": f"{folder}/packages-{uuid.uuid4().hex[:8]}"}


def _folder(run_id: str) -> Path:
    return settings().state_dir / "processes" / run_id


def _give_up(former: Run) -> None:
    process = LocalProcess.attach(_folder(former.run_id))
    if process is not None:
        process.stop(KILL_GRACE)
        process.forget()


def _s3_environment() -> dict[str, str]:
    """Return the platform's S3 connection as the variables that AWS tools, PyArrow and MLflow read."""
    if not settings().s3_conn_id:
        return {}
    from airflow_mlplatform.hooks.login import login_of
    from airflow_mlplatform.steps.storage import S3Options

    options = S3Options.of(login_of(settings().s3_conn_id))
    variables = {
        "AWS_ACCESS_KEY_ID": options.access_key,
        "AWS_SECRET_ACCESS_KEY": options.secret_key,
        "AWS_SESSION_TOKEN": options.session_token,
        "AWS_DEFAULT_REGION": options.region,
        "AWS_ENDPOINT_URL": options.endpoint,
        "MLFLOW_S3_ENDPOINT_URL": options.endpoint,
    }
    return {name: value for name, value in variables.items() if value}
