"""A person's yes in the middle of a rollout, while the analysis goes on."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput, TaskDeferred
from airflow.sdk.timezone import utcnow

from airflow_mlplatform.exceptions import MlplatformError
from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.hooks.mlflow import MlflowHook
from airflow_mlplatform.operators.seldon_task import as_json
from airflow_mlplatform.operators.served_model import find_version
from airflow_mlplatform.specs.arguments import read_argument
from airflow_mlplatform.specs.deployment import Rollout, Serving
from airflow_mlplatform.training.provenance import Provenance
from airflow_mlplatform.triggers.local_rolling import LocalRolling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_mlplatform.runtime.serving_files import EnvManager

__all__ = ["LocalStepApprovalOperator", "SeldonStepApprovalOperator", "StepApprovalOperator"]

APPROVE, REJECT = "Approve", "Reject"


class StepApprovalOperator(HITLOperator):
    """Ask people whether a rollout that has paused goes on; the triggerer judges the candidate meanwhile.

    If the analysis fails, or the candidate's servers do, before anybody has answered, what served before is put back
    and the task fails. Without an answer in time the answer is no. Not Airflow's ApprovalOperator: after a no, the task
    that follows must not be skipped, for it goes back.

    :param response_timeout: the time that people have.
    """

    def __init__(self, *, response_timeout: timedelta, **kwargs: Any) -> None:
        super().__init__(options=[APPROVE, REJECT], defaults=[REJECT], response_timeout=response_timeout, **kwargs)
        self.patience = response_timeout

    @abstractmethod
    def watcher(self, context: Context, asked: dict[str, Any]) -> BaseTrigger:
        """Return what judges the candidate until the answer is there.

        :param asked: JSON of :class:`~airflow_mlplatform.triggers.step_approval.Asked`.
        """

    def execute(self, context: Context) -> NoReturn:
        """Ask, and let the triggerer wait."""
        try:
            super().execute(context)
        except (TaskAwaitingInput, TaskDeferred):
            self.log.info("The candidate is judged meanwhile")
        until = utcnow() + self.patience
        asked = {"options": self.options, "defaults": self.defaults or [], "until": until.isoformat()}
        trigger = self.watcher(context, {"ti_id": str(context["task_instance"].id), **asked})
        self.defer(trigger=trigger, method_name=self.execute_complete.__name__)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Return the answer.

        :raises AirflowFailException: if the rollout has ended meanwhile; asking again would not bring it back.
        """
        from airflow_mlplatform.triggers.task import TaskEnding

        if "ending" in event:
            try:
                TaskEnding.decode(event).outcome()
            except MlplatformError as error:
                raise AirflowFailException(f"{error}\nTo begin the rollout again, clear its first task.") from error
        return super().execute_complete(context, event)


class SeldonStepApprovalOperator(StepApprovalOperator):
    """The pause of a rollout on Seldon Core; takes what
    :class:`~airflow_mlplatform.operators.seldon_deploy.SeldonDeployOperator` takes.

    :param resumes: the task of the same DAG that began the rollout and ended at its pause.
    """

    template_fields: Sequence[str] = (*HITLOperator.template_fields, "serving", "model")

    def __init__(
        self,
        *,
        resumes: str,
        serving: Serving | Mapping[str, Any],
        model: Any,
        rollout: Rollout | Mapping[str, Any],
        mlflow_conn_id: str = "",
        prometheus_conn_id: str = "",
        kubernetes_conn_id: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.serving = as_json(Serving, serving)
        self.rollout = as_json(Rollout, rollout)
        self.model = model
        self.resumes = resumes
        self.connections = {
            "mlflow_conn_id": mlflow_conn_id,
            "prometheus_conn_id": prometheus_conn_id,
            "kubernetes_conn_id": kubernetes_conn_id,
        }

    def watcher(self, context: Context, asked: dict[str, Any]) -> BaseTrigger:
        """Return what judges the candidate until the answer is there."""
        from airflow_mlplatform.triggers.step_approval import SeldonStepApprovalTrigger

        return SeldonStepApprovalTrigger(
            asked=asked,
            serving=self.serving,
            model=self.model,
            plan={"rollout": self.rollout, "resumes": self.resumes, **self.connections},
            answer="awaited",
            origin=Provenance.of(context, assets=()).to_json(),
        )


class LocalStepApprovalOperator(StepApprovalOperator):
    """The pause of a rollout on this machine; takes what
    :class:`~airflow_mlplatform.operators.local_deploy.LocalDeployOperator` takes.

    :param resumes: the task of the same DAG that began the rollout and ended at its pause.
    """

    template_fields: Sequence[str] = (*HITLOperator.template_fields, "model", "mlflow_conn_id")

    def __init__(
        self,
        *,
        resumes: str,
        serving: Serving | Mapping[str, Any],
        model: Any,
        rollout: Rollout | Mapping[str, Any],
        mlflow_conn_id: str | None = None,
        prometheus_conn_id: str = "",
        env_manager: EnvManager = "local",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.mlflow_conn_id = mlflow_conn_id
        self.rolling = LocalRolling(
            serving=read_argument(Serving, "serving", serving),
            rollout=read_argument(Rollout, "rollout", rollout),
            env_manager=env_manager,
            prometheus_conn_id=prometheus_conn_id,
            resumes=resumes,
        )

    def watcher(self, context: Context, asked: dict[str, Any]) -> BaseTrigger:
        """Return what judges the candidate until the answer is there."""
        from airflow_mlplatform.triggers.step_approval import LocalStepApprovalTrigger

        with failing_fast():
            hook = MlflowHook(self.mlflow_conn_id)
            servers = self.rolling.servers(find_version(self.model, hook), hook)
        work = self.rolling.work(context, servers, "awaited")
        return LocalStepApprovalTrigger(work.model_dump(mode="json", exclude_unset=True), asked)
