"""The model of an MLflow run becomes a version in the registry."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_mlplatform.exceptions import ConfigurationError, ServiceRefused, ServiceUnavailable
from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.hooks.mlflow import MlflowHook
from airflow_mlplatform.links import ModelVersionLink
from airflow_mlplatform.training.provenance import PREFIX, PRIVATE_TAGS, Provenance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_mlplatform.clients.mlflow import LoggedModel, MlflowClient, ModelVersion, Run

__all__ = ["MlflowRegisterOperator"]

READY_TIMEOUT = 300.0
POLL_SECONDS = 1.0


class MlflowRegisterOperator(BaseOperator):
    """Register the model that a run logged and give the new version an alias.

    One run gives one version of a model: a retry finds the version that the first try made and goes on from there. Its
    tags tell data, code and Airflow run. Returns ``{name, version, alias, run_id, model_uri}``.

    :param run: result of :class:`~airflow_mlplatform.operators.mlflow_run.MlflowRunOperator` or
        :class:`~airflow_mlplatform.operators.mlflow_select.MlflowSelectOperator`, or ``{"run_id": …}``. Templated.
    :param model: name of the registered model, made if missing. Templated.
    :param alias: alias that moves to the version. Templated.
    :param mlflow_conn_id: Airflow connection; that of the ``[mlplatform]`` section if left out.
    """

    template_fields: Sequence[str] = ("run", "model", "alias")
    operator_extra_links = (ModelVersionLink(),)
    ui_color = "#d9f0fa"

    def __init__(
        self,
        *,
        run: Any,
        model: str,
        alias: str = "challenger",
        mlflow_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run = run
        self.model = model
        self.alias = alias
        self.mlflow_conn_id = mlflow_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Register the run's model once, wait until it is ready, move the alias."""
        hook = MlflowHook(self.mlflow_conn_id)
        with failing_fast(), hook.client() as client:
            run = client.get_run(self.run["run_id"])
            logged = self._logged_model(client, run)
            version = self._find_or_create(client, run, logged, Provenance.of(context))
            context["ti"].xcom_push(key=ModelVersionLink.key, value=hook.version_url(version))
            version = self._when_ready(client, version)
            client.set_alias(self.model, self.alias, version.version)
        self.log.info("%s version %s is %r: %s", self.model, version.version, self.alias, hook.version_url(version))
        return {
            "name": version.name,
            "version": version.version,
            "alias": self.alias,
            "run_id": run.run_id,
            "model_uri": version.uri,
        }

    def _logged_model(self, client: MlflowClient, run: Run) -> LoggedModel:
        logged = client.get_model_of_run(run)
        if logged is None:
            raise ConfigurationError(
                f"task {self.task_id}: MLflow run {run.run_id} logged no model, so there is nothing to register; "
                'log it in the project: mlflow.<flavor>.log_model(model, name="model", input_example=…)'
            )
        return logged

    def _find_or_create(self, client: MlflowClient, run: Run, logged: LoggedModel, origin: Provenance) -> ModelVersion:
        client.get_or_create_registered_model(self.model)
        for version in client.search_model_versions(self.model, run_id=run.run_id):
            if version.model_id == logged.model_id and version.status != "FAILED_REGISTRATION":
                self.log.info("Version %s of %s exists already for this run", version.version, self.model)
                return version
        tags = self._tags(run.tags, origin)
        return client.create_model_version(self.model, logged.uri, run.run_id, tags, model_id=logged.model_id)

    def _tags(self, run_tags: Mapping[str, str], origin: Provenance) -> dict[str, str]:
        # Data, code and the task that trained come from the run; this task only says where it registered.
        tags = {
            key: value
            for key, value in run_tags.items()
            if key.startswith(PREFIX) and key not in PRIVATE_TAGS and value
        }
        chosen = self.run.get("selected_by") or {}
        if chosen:
            tags[f"{PREFIX}metric.{chosen['metric']}"] = str(chosen["value"])
        return origin.tags() | tags | {f"{PREFIX}registered_by": f"{origin.dag_id}.{origin.task_id}"}

    def _when_ready(self, client: MlflowClient, version: ModelVersion) -> ModelVersion:
        deadline = time.monotonic() + READY_TIMEOUT
        while version.status != "READY":
            if version.status == "FAILED_REGISTRATION":
                raise ServiceRefused(f"MLflow could not register {version.uri}: {version.status_message}")
            if time.monotonic() > deadline:
                raise ServiceUnavailable(
                    f"MLflow did not finish {version.uri} in {READY_TIMEOUT:.0f} s; try again later"
                )
            time.sleep(POLL_SECONDS)
            version = client.get_model_version(version.name, version.version)
        return version
