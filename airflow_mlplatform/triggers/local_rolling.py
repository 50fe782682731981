"""A rollout on this machine, from an operator's arguments: its servers, and all that a trigger needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_mlplatform.runtime.model_store import ModelStore
from airflow_mlplatform.runtime.serving_files import ServedModel, Servers
from airflow_mlplatform.settings import settings
from airflow_mlplatform.training.provenance import Provenance

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlplatform.clients.mlflow import ModelVersion
    from airflow_mlplatform.hooks.mlflow import MlflowHook
    from airflow_mlplatform.runtime.serving_files import EnvManager
    from airflow_mlplatform.serving.plan import Answer
    from airflow_mlplatform.specs.deployment import Rollout, Serving
    from airflow_mlplatform.triggers.local_rollout import LocalRollout

__all__ = ["READY_TIMEOUT", "LocalRolling"]

READY_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True)
class LocalRolling:
    """What of a rollout :class:`~airflow_mlplatform.operators.local_deploy.LocalDeployOperator` is told.

    :param resumes: the task that began it, if that is another of the same run.
    """

    serving: Serving
    rollout: Rollout
    env_manager: EnvManager = "local"
    ready_timeout: timedelta = READY_TIMEOUT
    prometheus_conn_id: str = ""
    resumes: str = ""

    def servers(self, version: ModelVersion, hook: MlflowHook) -> Servers:
        """Return the servers of a version, whose files are then on this machine."""
        model = ServedModel.of(version)
        folder = ModelStore(settings().state_dir).fetch(model, hook.environment())
        return Servers(
            model=model,
            folder=folder.resolve(),
            replicas=self.serving.replicas,
            env_manager=self.env_manager,
            ready_timeout=self.ready_timeout.total_seconds(),
        )

    def work(self, context: Context, servers: Servers, answer: Answer) -> LocalRollout:
        """Return all of the rollout that is fixed beforehand.

        :param answer: what a person said at the pause.
        """
        # Airflow's base of triggers takes longer to import than all else, and parsing does not need it.
        from airflow_mlplatform.triggers.local_rollout import LocalRollout
        from airflow_mlplatform.triggers.seldon_task import who_is

        return LocalRollout(
            state_dir=settings().state_dir,
            address=settings().serving_address,
            serving=self.serving,
            rollout=self.rollout,
            servers=servers,
            who=who_is(Provenance.of(context, assets=()), self.resumes),
            answer=answer,
            prometheus_conn_id=self.prometheus_conn_id,
        )
