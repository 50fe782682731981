"""``kind: deployment`` → a DAG: gate, approval, preflight, rollout, promotion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, BaseOperator, chain

from airflow_mlplatform.factory.dag import new_dag
from airflow_mlplatform.factory.rollout import ON_SELDON, ON_THIS_MACHINE, add_actions, check_params, rolled_out
from airflow_mlplatform.operators.preflight import PreflightOperator
from airflow_mlplatform.operators.promote_model import PromoteModelOperator
from airflow_mlplatform.operators.seldon_preflight import SeldonPreflightOperator
from airflow_mlplatform.operators.turn import TurnOperator
from airflow_mlplatform.sensors.model_promotion import ModelPromotionSensor
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.deployment import Approval, Deployment

__all__ = ["build_deployment"]


def build_deployment(spec: Deployment, path: Path, shown: str) -> DAG:
    """Build the DAG of a deployment spec; its param ``action`` says what a run is for.

    Deployments take turns, so that each is judged against the champion that the one before has left; the ways back wait
    for nobody. What a run is not for is skipped in the triggerer, which costs no worker.

    :raises ConfigurationError: if it cannot be on this runtime.
    """
    check_params(spec)
    on_seldon = settings().runtime == "kubernetes"
    operators = ON_SELDON if on_seldon else ON_THIS_MACHINE
    with new_dag(spec, path, shown) as dag:
        turn = TurnOperator(task_id="turn", only_if="{{ params.action == 'deploy' }}")
        gate = _gate(spec)
        tasks: list[BaseOperator] = [turn, gate, *_approvals(spec)]
        if spec.preflight:
            tasks.append(_preflight(spec, gate.output, on_seldon=on_seldon))
        rolled = rolled_out(spec, gate.output, operators)
        tasks.extend(rolled.tasks)
        if rolled.ends:
            tasks.append(PromoteModelOperator(task_id="promote", verdict=gate.output))
        chain(*tasks)
        add_actions(spec, dag, operators)
    return dag


def _preflight(spec: Deployment, verdict: Any, *, on_seldon: bool) -> BaseOperator:
    if on_seldon:
        return SeldonPreflightOperator(task_id="preflight", model=verdict, serving=spec.serving)
    return PreflightOperator(task_id="preflight", model=verdict)


def _gate(spec: Deployment) -> ModelPromotionSensor:
    return ModelPromotionSensor(task_id="gate", model=spec.model, gate=spec.gate, on_refusal="skip")


def _approvals(spec: Deployment) -> list[BaseOperator]:
    return [_approval(spec, spec.gate.approval)] if spec.gate.approval else []


def _approval(spec: Deployment, approval: Approval) -> ApprovalOperator:
    return ApprovalOperator(
        task_id="approval",
        subject=f"Serve the new {spec.model.name}?",
        body="{{ ti.xcom_pull('gate')['summary'] }}",
        assigned_users=[{"id": user, "name": user} for user in approval.users],
        response_timeout=approval.timeout,
        defaults=["Approve" if approval.default == "approve" else "Reject"],
    )
