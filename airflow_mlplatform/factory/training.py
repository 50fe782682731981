"""``kind: training`` → a DAG: a run a combination, the best of them, the registry."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, TaskGroup

from airflow_mlplatform.factory.dag import new_dag
from airflow_mlplatform.factory.schedule import scheduled_assets
from airflow_mlplatform.operators.mlflow_register import MlflowRegisterOperator
from airflow_mlplatform.operators.mlflow_run import MlflowRunOperator
from airflow_mlplatform.operators.mlflow_select import MlflowSelectOperator
from airflow_mlplatform.specs.training import Training
from airflow_mlplatform.training.tracked_run import label

__all__ = ["build_training", "combinations"]


def build_training(spec: Training, path: Path, shown: str, bundle: str = "") -> DAG:
    """Build the DAG of a training spec.

    :param bundle: name of the DAG bundle that holds it; training pods take the project's folder from there.
    """
    with new_dag(spec, path, shown) as dag:
        project = _project(spec, path, shown, bundle)
        if spec.matrix:
            result = _best(spec, _matrix(spec, project))
        else:
            result = MlflowRunOperator(task_id="train", **project).output
        if spec.register_:
            MlflowRegisterOperator(
                task_id="register", run=result, model=spec.register_.model, alias=spec.register_.alias
            )
    return dag


def _project(spec: Training, path: Path, shown: str, bundle: str) -> dict[str, Any]:
    return {
        "uri": spec.project.uri,
        "version": spec.project.version,
        "entry_point": spec.project.entry_point,
        "parameters": dict(spec.project.parameters),
        "secret": spec.project.secret and spec.project.secret.model_dump(),
        "experiment": spec.experiment,
        "environment": spec.environment,
        "pod": spec.defaults,
        "search_path": str(path.parent),
        "bundle": {"name": bundle, "folder": str(Path(shown).parent)} if bundle else None,
        "inlets": [Asset(uri) for uri in scheduled_assets(spec.schedule)],
    }


def _matrix(spec: Training, project: dict[str, Any]) -> list[MlflowRunOperator]:
    """Make a task a combination: mapped tasks could not start in the triggerer, and would each cost a worker."""
    with TaskGroup("train"):
        return [
            MlflowRunOperator(task_id=task_id, task_display_name=label(combination), combination=combination, **project)
            for task_id, combination in combinations(spec.matrix).items()
        ]


def _best(spec: Training, runs: list[MlflowRunOperator]) -> Any:
    results = [run.output for run in runs]
    if spec.select is None:
        return results
    return MlflowSelectOperator(task_id="select", runs=results, metric=spec.select.metric, best=spec.select.best).output


def combinations(matrix: dict[str, tuple[Any, ...]]) -> dict[str, dict[str, Any]]:
    """Return every combination of the matrix by its task id, the last parameter varying fastest."""
    found: dict[str, dict[str, Any]] = {}
    for values in product(*matrix.values()):
        combination = dict(zip(matrix, values, strict=True))
        task_id = re.sub(r"[^A-Za-z0-9_.-]+", "_", label(combination).replace("=", "-"))[:150]
        while task_id in found:
            task_id += "_"
        found[task_id] = combination
    return found
