"""``kind: training`` → a DAG: run the project, once or over a matrix; select the best; register it."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, XComArg

from airflow_mlplatform.factory.dag import new_dag
from airflow_mlplatform.factory.schedule import scheduled_assets
from airflow_mlplatform.operators.mlflow_register import MlflowRegisterOperator
from airflow_mlplatform.operators.mlflow_run import MlflowRunOperator
from airflow_mlplatform.operators.mlflow_select import MlflowSelectOperator
from airflow_mlplatform.specs.training import Training

__all__ = ["build_training"]


def build_training(spec: Training, path: Path, shown: str) -> DAG:
    """Build the DAG of a training spec."""
    with new_dag(spec, path, shown) as dag:
        result = _train(spec, path)
        if spec.select:
            result = MlflowSelectOperator(
                task_id="select", runs=result, metric=spec.select.metric, best=spec.select.best
            ).output
        if spec.register_:
            MlflowRegisterOperator(
                task_id="register", run=result, model=spec.register_.model, alias=spec.register_.alias
            )
    return dag


def _train(spec: Training, path: Path) -> XComArg:
    project: dict[str, Any] = {
        "task_id": "train",
        "uri": spec.project.uri,
        "version": spec.project.version,
        "entry_point": spec.project.entry_point,
        "parameters": dict(spec.project.parameters),
        "secret": spec.project.secret and spec.project.secret.model_dump(),
        "experiment": spec.experiment,
        "environment": spec.environment,
        "env": dict(spec.defaults.env),
        "search_path": str(path.parent),
        "inlets": [Asset(uri) for uri in scheduled_assets(spec.schedule)],
    }
    if not spec.matrix:
        return MlflowRunOperator(**project).output
    return MlflowRunOperator.partial(**project).expand(combination=combinations(spec.matrix)).output


def combinations(matrix: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Return every combination of the matrix, the last parameter varying fastest."""
    return [dict(zip(matrix, values, strict=True)) for values in product(*matrix.values())]
