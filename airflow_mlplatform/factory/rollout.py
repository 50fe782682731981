"""The tasks of a deployment: the rollout, with its pause, and what else a run may be for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.operators.local_actions import (
    LocalRollbackOperator,
    LocalScaleOperator,
    LocalTeardownOperator,
)
from airflow_mlplatform.operators.local_deploy import LocalDeployOperator
from airflow_mlplatform.operators.seldon_actions import (
    SeldonRollbackOperator,
    SeldonScaleOperator,
    SeldonTeardownOperator,
)
from airflow_mlplatform.operators.seldon_deploy import SeldonDeployOperator
from airflow_mlplatform.operators.step_approval import LocalStepApprovalOperator, SeldonStepApprovalOperator

if TYPE_CHECKING:
    from airflow.sdk import DAG, BaseOperator

    from airflow_mlplatform.specs.deployment import Deployment

__all__ = ["ON_SELDON", "ON_THIS_MACHINE", "Operators", "Rolled", "add_actions", "check_params", "rolled_out"]

ACTIONS = {
    "deploy": "roll out the candidate, if the gate lets it through",
    "rollback": "one step back: end the rollout that is under way; if there is none, the former champion",
    "scale": "another number of servers, until the next deployment",
    "teardown": "remove the endpoint",
}
PARAMS = ("action", "replicas")


@dataclass(frozen=True)
class Rolled:
    """The tasks that roll out.

    :param tasks: one after the other.
    :param ends: whether the candidate serves all requests in the end; not in an A/B test that stays.
    """

    tasks: list[BaseOperator]
    ends: bool


@dataclass(frozen=True)
class Operators:
    """What does it all, on Kubernetes or on this machine; they take the same arguments.

    :param deploy: rolls out.
    :param approval: asks people at the pause.
    :param rollback: goes one step back.
    :param scale: changes the number of servers.
    :param teardown: removes the endpoint.
    """

    deploy: type[BaseOperator]
    approval: type[BaseOperator]
    rollback: type[BaseOperator]
    scale: type[BaseOperator]
    teardown: type[BaseOperator]


ON_SELDON = Operators(
    deploy=SeldonDeployOperator,
    approval=SeldonStepApprovalOperator,
    rollback=SeldonRollbackOperator,
    scale=SeldonScaleOperator,
    teardown=SeldonTeardownOperator,
)
ON_THIS_MACHINE = Operators(
    deploy=LocalDeployOperator,
    approval=LocalStepApprovalOperator,
    rollback=LocalRollbackOperator,
    scale=LocalScaleOperator,
    teardown=LocalTeardownOperator,
)


def rolled_out(spec: Deployment, verdict: Any, operators: Operators) -> Rolled:
    """Make the tasks of the rollout.

    :param verdict: output of the gate.
    """
    rollout, pause = spec.rollout, spec.rollout.pause
    what = {"serving": spec.serving, "rollout": rollout, "model": verdict}
    tasks: list[BaseOperator] = [operators.deploy(task_id="deploy", **what)]
    if pause:
        approval = operators.approval(
            task_id="approve_step",
            subject=f"Go on with the new {spec.model.name}, which has {pause.after} % of the requests?",
            assigned_users=[{"id": user, "name": user} for user in pause.users],
            response_timeout=pause.timeout,
            resumes="deploy",
            **what,
        )
        tasks += [approval, operators.deploy(task_id="deploy_on", resumes="deploy", answer=approval.output, **what)]
    return Rolled(tasks, ends=not (rollout.strategy == "ab" and rollout.winner is None))


def check_params(spec: Deployment) -> None:
    """Make sure that the spec leaves the params to us that say what a run is for.

    :raises ConfigurationError: if it does not.
    """
    for name in PARAMS:
        if name in spec.params:
            raise ConfigurationError(
                f"params.{name}: that param says what a run of a deployment is for; give it another name"
            )


def add_actions(spec: Deployment, dag: DAG, operators: Operators) -> None:
    """Add the params that say what a run is for, and the tasks for all but deployments."""
    told = "; ".join(f"{name}: {what}" for name, what in ACTIONS.items())
    dag.params["action"] = Param("deploy", type="string", enum=list(ACTIONS), description=told)
    dag.params["replicas"] = Param(spec.serving.replicas, type="integer", minimum=0, description="Servers (scale).")
    chosen = {name: f"{{{{ params.action == '{name}' }}}}" for name in ACTIONS}
    operators.rollback(task_id="rollback", serving=spec.serving, model=spec.model, only_if=chosen["rollback"])
    operators.scale(task_id="scale", serving=spec.serving, replicas="{{ params.replicas }}", only_if=chosen["scale"])
    operators.teardown(task_id="teardown", serving=spec.serving, only_if=chosen["teardown"])
