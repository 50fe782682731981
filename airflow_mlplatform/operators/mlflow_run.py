"""`mlflow run` of a project, tracked from before its start to its end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

from airflow.sdk import BaseOperator
from airflow.triggers.base import StartTriggerArgs

from airflow_mlplatform.exceptions import ServiceError, UnsupportedHere
from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.hooks.mlflow import MlflowHook
from airflow_mlplatform.links import MlflowRunLink
from airflow_mlplatform.operators.environment import kept_env, resolve_env
from airflow_mlplatform.runtime.mlflow_project import Environment, ProjectCall, prepare
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.common import Defaults
from airflow_mlplatform.steps.storage import Storage
from airflow_mlplatform.training.plan import TrainingPlan
from airflow_mlplatform.training.provenance import Provenance
from airflow_mlplatform.training.tracked_run import RunResult, Work, label
from airflow_mlplatform.triggers.starting import NeedsWorker, needs_a_worker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_mlplatform.clients.mlflow import MlflowClient
    from airflow_mlplatform.operators.local_training import LocalTraining
    from airflow_mlplatform.specs.common import EnvValue

__all__ = ["MlflowRunOperator", "RunResult"]

TRIGGER = "airflow_mlplatform.triggers.mlflow_run.MlflowRunTrigger"


class MlflowRunOperator(BaseOperator):
    """Run an MLflow project and follow it to its end.

    The MLflow run is made first and handed to the project, so that a retry finds it: it attaches to a project that
    still runs, continues one that was lost under the same run id, and returns the result of one that has finished. A
    failed project closes its run as FAILED with the tag ``mlplatform.reason``. Clearing the task repeats nothing that
    is done, unless code or parameters have changed since.

    On Kubernetes the project runs in a pod of its own, which the triggerer makes and follows: no worker takes part. On
    the local runtime it is a process of this machine.

    For a matrix: ``MlflowRunOperator.partial(…).expand(combination=[{"alpha": 0.1}, {"alpha": 0.5}])``; on Kubernetes
    each mapped task then starts on a worker for a moment, which tasks written one by one do not.

    :param uri: folder (relative to ``search_path``), git URL (``…#subfolder``) or, on the local runtime, URL of a zip
        file. On Kubernetes an absolute path is a folder of the image. Templated.
    :param experiment: MLflow experiment, made if missing. Templated.
    :param version: branch, tag or commit of a git repository. Templated.
    :param entry_point: entry point of the project.
    :param parameters: values for the entry point; ``pond://…`` becomes the real location. Templated.
    :param combination: more parameters, one combination of a matrix; they win. Templated.
    :param environment: where the project's packages come from: ``image`` (what is installed there already), or an
        environment that MLflow makes with ``uv``, ``virtualenv`` or ``conda``.
    :param pod: image (any with MLflow), resources, service account, node selector, tolerations, labels and environment
        variables of the pod; of these the local runtime uses the variables.
    :param env: more environment variables of the project: text, ``{"secret": name, "key": key}`` (Kubernetes) or
        ``{"connection": id}`` (its password; local runtime); they win.
    :param secret: ``{"secret": name, "key": key}`` of the token (https) or private key (ssh) for a private repository;
        not on the local runtime.
    :param search_path: folder that relative URIs start from; the DAG file's if left out.
    :param bundle: ``{"name": …, "folder": …}``: where that folder lies in a DAG bundle, for pods.
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
        pod: Defaults | Mapping[str, Any] | None = None,
        env: Mapping[str, EnvValue | Mapping[str, str]] | None = None,
        secret: Mapping[str, str] | None = None,
        search_path: str | None = None,
        bundle: Mapping[str, Any] | None = None,
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
        self.pod = pod if isinstance(pod, Defaults) else Defaults.model_validate(pod or {})
        self.env = kept_env({**self.pod.env, **(env or {})})
        self.secret = secret
        self.search_path = search_path
        self.bundle = bundle
        self.mlflow_conn_id = mlflow_conn_id
        self._hook: MlflowHook | None = None
        self._training: LocalTraining | None = None
        if settings().runtime == "kubernetes":
            self._start_in_triggerer()

    @property
    def hook(self) -> MlflowHook:
        """The hook; the connection is looked up when it is first used."""
        if self._hook is None:
            self._hook = MlflowHook(self.mlflow_conn_id)
        return self._hook

    @property
    def combination_label(self) -> str:
        """The combination in a line, which names a mapped task in the UI."""
        return label(self.combination or {})

    def _start_in_triggerer(self) -> None:
        rendered = {name: getattr(self, name) for name in self.template_fields}
        if needs_a_worker(list(rendered.values())):
            return
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=TRIGGER,
            trigger_kwargs={**rendered, "plan": self._plan().model_dump(mode="json"), "origin": None},
            next_method="execute_complete",
            timeout=self.execution_timeout,
        )

    def _plan(self) -> TrainingPlan:
        return TrainingPlan(
            entry_point=self.entry_point,
            environment=self.environment,
            env=self.env,
            secret=dict(self.secret) if self.secret else None,
            pod=self.pod.model_dump(mode="json", exclude={"env"}, exclude_defaults=True),
            bundle=dict(self.bundle) if self.bundle else None,
            folder=self.search_path,
            owner=self.owner,
            mlflow_conn_id=self.mlflow_conn_id,
            timeout=self.execution_timeout.total_seconds() if self.execution_timeout else None,
            by_worker=bool(self.outlets),
        )

    def execute(self, context: Context) -> RunResult:
        """Train here, or let the triggerer train where the task could not start there by itself."""
        if self.combination and context.get("map_index_template") is None:
            context["map_index_template"] = self.MAP_INDEX_TEMPLATE
        if settings().runtime == "kubernetes":
            self._train_in_triggerer(context)
        with failing_fast(), self.hook.client() as client:
            return self._train_here(client, context)

    def execute_complete(self, context: Context, event: object) -> RunResult:
        """End the task as the trigger's event says, or take it over."""
        from airflow_mlplatform.triggers.task import TaskEnding

        with failing_fast():
            try:
                return cast("RunResult", TaskEnding.decode(event).outcome())
            except NeedsWorker as reason:
                self.log.info("%s", reason)
                self._train_in_triggerer(context)

    def _train_in_triggerer(self, context: Context) -> NoReturn:
        from airflow_mlplatform.triggers.mlflow_run import MlflowRunTrigger

        rendered = {name: getattr(self, name) for name in self.template_fields}
        origin = Provenance.of(context).to_json()
        self.defer(
            trigger=MlflowRunTrigger(**rendered, plan=self._plan().model_dump(mode="json"), origin=origin),
            method_name="execute_complete",
            timeout=self.execution_timeout,
        )

    def _train_here(self, client: MlflowClient, context: Context) -> RunResult:
        from airflow_mlplatform.operators.local_training import LocalTraining

        call = self._call(context)
        self._training = LocalTraining(
            self._work(call), call, Provenance.of(context), resolve_env(self.env), self.hook, self.log
        )
        return self._training.run(client, lambda url: context["ti"].xcom_push(key=MlflowRunLink.key, value=url))

    def on_kill(self) -> None:
        """Stop the project and close its run as KILLED."""
        if self._training is not None:
            try:
                self._training.stop()
            except ServiceError as error:
                self.log.warning("The MLflow run stays open: %s", error)

    def _call(self, context: Context) -> ProjectCall:
        if self.secret:
            raise UnsupportedHere(
                f"task {self.task_id}: project.secret, a token for git from a Kubernetes Secret, does not work on the "
                "local runtime; let git where the task runs know the token (a credential helper) and drop secret"
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

    def _work(self, call: ProjectCall) -> Work:
        return Work(
            experiment=self.experiment,
            uri=call.uri,
            entry_point=call.entry_point,
            parameters=call.parameters,
            fingerprint=call.fingerprint,
            owner=self.owner,
            name=self.combination_label,
            code_version=call.code_version,
            commit=call.version or "",
        )
