"""The tasks of a deployment on Seldon Core: the rollout, with its pause, and what else a run may be for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.operators.seldon_actions import (
    SeldonRollbackOperator,
    SeldonScaleOperator,
    SeldonTeardownOperator,
)
from airflow_mlplatform.operators.seldon_deploy import SeldonDeployOperator

if TYPE_CHECKING:
    from airflow.sdk import DAG, BaseOperator

    from airflow_mlplatform.specs.deployment import Deployment, Pause

__all__ = ["Rolled", "add_actions", "check_params", "rolled_out"]

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


def rolled_out(spec: Deployment, verdict: Any, operator: type[BaseOperator] = SeldonDeployOperator) -> Rolled:
    """Make the tasks of the rollout.

    :param verdict: output of the gate.
    :param operator: what rolls out, on Kubernetes or on this machine.
    """
    rollout = spec.rollout
    make = partial(operator, serving=spec.serving, rollout=rollout, model=verdict)
    tasks: list[BaseOperator] = [make(task_id="deploy")]
    if rollout.pause:
        approval = _approval(spec, rollout.pause)
        tasks += [approval, make(task_id="deploy_on", resumes="deploy", answer=approval.output)]
    return Rolled(tasks, ends=not (rollout.strategy == "ab" and rollout.winner is None))


def _approval(spec: Deployment, pause: Pause) -> HITLOperator:
    # Not Airflow's ApprovalOperator: after a no, the task that follows must not be skipped, for it goes back.
    return HITLOperator(
        task_id="approve_step",
        subject=f"Go on with the new {spec.model.name}, which has {pause.after} % of the requests?",
        options=["Approve", "Reject"],
        defaults=["Reject"],
        assigned_users=[{"id": user, "name": user} for user in pause.users],
        response_timeout=pause.timeout,
    )


def check_params(spec: Deployment) -> None:
    """Make sure that the spec leaves the params to us that say what a run is for.

    :raises ConfigurationError: if it does not.
    """
    for name in PARAMS:
        if name in spec.params:
            raise ConfigurationError(
                f"params.{name}: that param says what a run of a deployment is for; give it another name"
            )


def add_actions(spec: Deployment, dag: DAG) -> None:
    """Add the params that say what a run is for, and the tasks for all but deployments."""
    told = "; ".join(f"{name}: {what}" for name, what in ACTIONS.items())
    dag.params["action"] = Param("deploy", type="string", enum=list(ACTIONS), description=told)
    dag.params["replicas"] = Param(spec.serving.replicas, type="integer", minimum=0, description="Servers (scale).")
    chosen = {name: f"{{{{ params.action == '{name}' }}}}" for name in ACTIONS}
    SeldonRollbackOperator(task_id="rollback", serving=spec.serving, model=spec.model, only_if=chosen["rollback"])
    SeldonScaleOperator(
        task_id="scale", serving=spec.serving, replicas="{{ params.replicas }}", only_if=chosen["scale"]
    )
    SeldonTeardownOperator(task_id="teardown", serving=spec.serving, only_if=chosen["teardown"])
