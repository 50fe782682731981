"""`mlflow run` of a project, tracked from before its start to its end."""

from __future__ import annotations

import math
import os
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from airflow.sdk import BaseOperator

from airflow_mlplatform.clients.mlflow_operations import quoted
from airflow_mlplatform.exceptions import ProcessFailed, ServiceError, UnsupportedHere
from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.hooks.mlflow import MlflowHook
from airflow_mlplatform.links import MlflowRunLink
from airflow_mlplatform.operators.environment import kept_env, resolve_env
from airflow_mlplatform.operators.provenance import (
    CODE_VERSION,
    FINGERPRINT,
    KEY,
    REASON,
    Provenance,
)
from airflow_mlplatform.runtime.local import LocalProcess, inherited_environment
from airflow_mlplatform.runtime.mlflow_project import Environment, ProjectCall, prepare
from airflow_mlplatform.runtime.process_output import Tail
from airflow_mlplatform.settings import settings
from airflow_mlplatform.steps.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_mlplatform.clients.mlflow import MlflowClient, Run
    from airflow_mlplatform.specs.common import EnvValue

__all__ = ["MlflowRunOperator", "RunResult"]

KILL_GRACE = 3.0


class RunResult(TypedDict):
    """What the operator returns (XCom); a metric that is no finite number is ``None``."""

    run_id: str
    experiment_id: str
    run_url: str
    model_uri: str | None
    metrics: dict[str, float | None]
    params: dict[str, str]
    code_version: str


class MlflowRunOperator(BaseOperator):
    """Run an MLflow project and follow it to its end.

    The MLflow run is made first and handed to the project, so that a retry finds it: it attaches to a project that
    still runs, continues one that was lost under the same run id, and returns the result of one that has finished. A
    failed project closes its run as FAILED with the tag ``mlplatform.reason``. Clearing the task repeats nothing that
    is done, unless code or parameters have changed since.

    For a matrix: ``MlflowRunOperator.partial(…).expand(combination=[{"alpha": 0.1}, {"alpha": 0.5}])``.

    :param uri: folder (relative to ``search_path``), git URL (``…#subfolder``) or URL of a zip file. Templated.
    :param experiment: MLflow experiment, made if missing. Templated.
    :param version: branch, tag or full commit of a git repository. Templated.
    :param entry_point: entry point of the project.
    :param parameters: values for the entry point; ``pond://…`` becomes the real location. Templated.
    :param combination: more parameters, one combination of a matrix; they win. Templated.
    :param environment: where the project's packages come from: ``image`` (this Python), or an environment that MLflow
        makes with ``uv``, ``virtualenv`` or ``conda``.
    :param env: environment variables of the project: text or ``{"connection": id}`` (its password).
    :param secret: Kubernetes Secret with a token for the repository; not on the local runtime.
    :param search_path: folder that relative URIs start from; the DAG file's if left out.
    :param mlflow_conn_id: Airflow connection; that of the ``[mlplatform]`` section if left out.
    """

    template_fields: Sequence[str] = ("uri", "version", "experiment", "parameters", "combination")
    template_fields_renderers: ClassVar = {"parameters": "json", "combination": "json"}
    operator_extra_links = (MlflowRunLink(),)
    ui_color = "#d9f0fa"
    MAP_INDEX_TEMPLATE: ClassVar[str] = "{{ task.combination_label }}"

    def __init__(
        self,
        *,
        uri: str,
        experiment: str,
        version: str | None = None,
        entry_point: str = "main",
        parameters: Mapping[str, Any] | None = None,
        combination: Mapping[str, Any] | None = None,
        environment: Environment = "image",
        env: Mapping[str, EnvValue | Mapping[str, str]] | None = None,
        secret: Mapping[str, str] | None = None,
        search_path: str | None = None,
        mlflow_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.uri = uri
        self.experiment = experiment
        self.version = version
        self.entry_point = entry_point
        self.parameters = parameters
        self.combination = combination
        self.environment = environment
        self.env = env
        self.secret = secret
        self.search_path = search_path
        self.mlflow_conn_id = mlflow_conn_id
        self._hook: MlflowHook | None = None
        self._run_id = ""
        self._process: LocalProcess | None = None
        self._killed = False

    @property
    def hook(self) -> MlflowHook:
        """The hook; the connection is looked up when it is first used."""
        if self._hook is None:
            self._hook = MlflowHook(self.mlflow_conn_id)
        return self._hook

    @property
    def combination_label(self) -> str:
        """The combination in a line, which names a mapped task in the UI."""
        return ", ".join(f"{name}={value}" for name, value in (self.combination or {}).items())

    def execute(self, context: Context) -> RunResult:
        """Find or make the MLflow run, run the project in it, and return what it logged."""
        if self.combination and context.get("map_index_template") is None:
            context["map_index_template"] = self.MAP_INDEX_TEMPLATE
        with failing_fast(), self.hook.client() as client:
            call = self._call(context)
            run = self._find_or_create(client, call, Provenance.of(context))
            self._run_id = run.run_id
            url = self.hook.run_url(run)
            context["ti"].xcom_push(key=MlflowRunLink.key, value=url)
            self.log.info("MLflow run %s: %s", run.run_id, url)
            self._follow(client, call, run)
            return self._result(client, call)

    def on_kill(self) -> None:
        """Stop the project and close its run as KILLED."""
        self._killed = True
        if self._process is not None:
            self._process.stop(KILL_GRACE)
        if self._run_id:
            try:
                with self.hook.client() as client:
                    self._close(client, "KILLED", "the Airflow task was killed")
            except ServiceError as error:
                self.log.warning("MLflow run %s stays open: %s", self._run_id, error)

    def _call(self, context: Context) -> ProjectCall:
        if self.secret:
            raise UnsupportedHere(
                f"task {self.task_id}: project.secret, a token for git from a Kubernetes Secret, is not part of this "
                "release; let git where the task runs know the token (a credential helper) and drop secret"
            )
        storage = Storage(pond=settings().pond)
        given = {**(self.parameters or {}), **(self.combination or {})}
        located = {
            name: storage.resolve(value) if isinstance(value, str) and value.startswith("pond://") else value
            for name, value in given.items()
        }
        return prepare(
            self.uri,
            folder=Path(self.search_path or Path(context["dag"].fileloc).parent),
            version=self.version,
            entry_point=self.entry_point,
            parameters=located,
            environment=self.environment,
        )

    def _find_or_create(self, client: MlflowClient, call: ProjectCall, origin: Provenance) -> Run:
        experiment_id = client.get_or_create_experiment(self.experiment)
        found = client.search_runs(experiment_id, f"tags.`{KEY}` = {quoted(origin.key)}", limit=1)
        tags = origin.tags() | {KEY: origin.key, FINGERPRINT: call.fingerprint}
        for former in found:
            same_work = former.tags.get(FINGERPRINT) == call.fingerprint
            if same_work and (former.active or former.status == "FINISHED"):
                self.log.info("Continuing MLflow run %s (%s) of an earlier try", former.run_id, former.status)
                client.set_run_tags(former.run_id, tags)
                return former
            self._give_up(client, former)
        run = client.create_run(experiment_id, tags | self._source_tags(call), name=self.combination_label or None)
        client.log_batch(run.run_id, params=call.parameters)
        return run

    def _source_tags(self, call: ProjectCall) -> dict[str, str]:
        # What `mlflow run` itself writes when it makes the run.
        tags = {
            "mlflow.source.name": call.uri,
            "mlflow.source.type": "PROJECT",
            "mlflow.project.entryPoint": call.entry_point,
            "mlflow.user": self.owner,
            CODE_VERSION: call.code_version,
        }
        return tags | ({"mlflow.source.git.commit": call.version} if call.version else {})

    def _give_up(self, client: MlflowClient, former: Run) -> None:
        process = LocalProcess.attach(self._folder(former.run_id))
        if process is not None:
            process.stop(KILL_GRACE)
            process.forget()
        if former.active:
            client.set_run_tags(former.run_id, {REASON: "another try with other code or parameters took its place"})
            client.update_run(former.run_id, "KILLED")

    def _folder(self, run_id: str) -> Path:
        return settings().state_dir / "processes" / run_id

    def _follow(self, client: MlflowClient, call: ProjectCall, run: Run) -> None:
        folder = self._folder(run.run_id)
        if run.active:
            command = call.command(run.run_id, run.experiment_id)
            folder.parent.mkdir(parents=True, exist_ok=True)
            env = self._environment() | self._own_packages(folder)
            self._process = LocalProcess.ensure(folder, command, env, folder.parent)
        else:
            self._process = LocalProcess.attach(folder)
        if self._process is None:
            return
        tail = Tail()
        for line in self._process.follow():
            self.log.info("%s", line)
            tail.add(line)
        self._interpret(client, self._process, tail)

    def _interpret(self, client: MlflowClient, process: LocalProcess, tail: Tail) -> None:
        if self._killed:
            raise ProcessFailed(f"MLflow run {self._run_id} was stopped because its Airflow task was killed")
        code, run = process.exit_code, client.get_run(self._run_id)
        if code is None and run.active:
            raise ProcessFailed(
                f"the project of MLflow run {run.run_id} vanished without an exit code (out of memory, or the machine "
                "went down); the next try continues the same run"
            )
        if code or run.status in ("FAILED", "KILLED"):
            self._close(client, "FAILED" if code else run.status, tail.reason)
            process.forget()
            raise ProcessFailed(
                f"MLflow project {self.uri} ended with exit code {code}: {tail.reason}\n"
                f"Its run is {run.run_id}; its last lines:\n{tail}",
                code,
            )
        if run.active:
            client.update_run(run.run_id, "FINISHED")
        process.forget()

    def _close(self, client: MlflowClient, status: Any, reason: str) -> None:
        client.set_run_tags(self._run_id, {REASON: reason})
        client.update_run(self._run_id, status)

    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        ours = {"PATH": path, "PYTHONUNBUFFERED": "1", "GIT_TERMINAL_PROMPT": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
        tracking, given = self.hook.environment(), resolve_env(kept_env(self.env))
        return inherited_environment() | ours | _s3_environment() | tracking | given

    def _own_packages(self, folder: Path) -> dict[str, str]:
        # MLflow takes a folder that another run is still filling, or that a killed one left behind, for a ready one.
        return {} if self.environment == "image" else {"MLFLOW_ENV_ROOT": f"{folder}/packages-{uuid.uuid4().hex[:8]}"}

    def _result(self, client: MlflowClient, call: ProjectCall) -> RunResult:
        run = client.get_run(self._run_id)
        model = client.get_model_of_run(run)
        return RunResult(
            run_id=run.run_id,
            experiment_id=run.experiment_id,
            run_url=self.hook.run_url(run),
            model_uri=model.uri if model else None,
            metrics={name: value if math.isfinite(value) else None for name, value in run.metrics.items()},
            params=dict(run.params),
            code_version=run.tags.get(CODE_VERSION, call.code_version),
        )


def _s3_environment() -> dict[str, str]:
    """Return the platform's S3 connection as the variables that AWS tools, PyArrow and MLflow read."""
    if not settings().s3_conn_id:
        return {}
    from airflow_mlplatform.operators.etl_stage import login_of
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
