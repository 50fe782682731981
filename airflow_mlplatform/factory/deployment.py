"""``kind: deployment`` → a DAG: gate, approval, preflight, rollout, promotion."""

from __future__ import annotations

from pathlib import Path

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, BaseOperator, chain

from airflow_mlplatform.exceptions import UnsupportedHere
from airflow_mlplatform.factory.dag import new_dag
from airflow_mlplatform.operators.local_deploy import LocalDeployOperator
from airflow_mlplatform.operators.preflight import PreflightOperator
from airflow_mlplatform.operators.promote_model import PromoteModelOperator
from airflow_mlplatform.sensors.model_promotion import ModelPromotionSensor
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.deployment import Approval, Deployment

__all__ = ["build_deployment"]


def build_deployment(spec: Deployment, path: Path, shown: str) -> DAG:
    """Build the DAG of a deployment spec; two rollouts of one name never run at the same time.

    :raises UnsupportedHere: on Kubernetes, where serving by Seldon is not part of this release.
    """
    if settings().runtime == "kubernetes":
        raise UnsupportedHere(
            "deployment specs run on the local runtime only in this release; set [mlplatform] runtime = local"
        )
    with new_dag(spec, path, shown, max_active_runs=1) as dag:
        gate = ModelPromotionSensor(task_id="gate", model=spec.model, gate=spec.gate, on_refusal="skip")
        verdict = gate.output
        tasks: list[BaseOperator] = [gate]
        if spec.gate.approval:
            tasks.append(_approval(spec, spec.gate.approval))
        if spec.preflight:
            tasks.append(PreflightOperator(task_id="preflight", model=verdict))
        tasks.append(LocalDeployOperator(task_id="deploy", serving=spec.serving, rollout=spec.rollout, model=verdict))
        tasks.append(PromoteModelOperator(task_id="promote", verdict=verdict))
        chain(*tasks)
    return dag


def _approval(spec: Deployment, approval: Approval) -> ApprovalOperator:
    return ApprovalOperator(
        task_id="approval",
        subject=f"Serve the new {spec.model.name}?",
        body="{{ ti.xcom_pull('gate')['summary'] }}",
        assigned_users=[{"id": user, "name": user} for user in approval.users],
        response_timeout=approval.timeout,
        defaults=["Reject"],
    )
