"""What of `MlflowRunOperator` needs no MLflow; the rest is in tests/services/test_mlflow_run.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import DAG

from airflow_mlplatform.operators.mlflow_run import MlflowRunOperator

if TYPE_CHECKING:
    import pytest


def test_building_looks_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", "not even a connection")
    with DAG("a_dag", schedule=None):
        operator = MlflowRunOperator(task_id="train", uri="no/such/folder", experiment="{{ ds }}")
    assert set(operator.template_fields) == {"uri", "version", "experiment", "parameters", "combination"}


def test_a_matrix_is_mapped() -> None:
    with DAG("a_dag", schedule=None):
        mapped = MlflowRunOperator.partial(task_id="train", uri="project", experiment="wine").expand(
            combination=[{"C": 0.1}, {"C": 1.0}]
        )
    assert mapped.operator_class is MlflowRunOperator


def test_a_combination_has_a_label() -> None:
    operator = MlflowRunOperator(task_id="t", uri="p", experiment="e", combination={"C": 0.1, "depth": 3})
    assert operator.combination_label == "C=0.1, depth=3"
    assert MlflowRunOperator(task_id="t", uri="p", experiment="e").combination_label == ""


def test_killing_a_task_that_has_not_started_anything() -> None:
    MlflowRunOperator(task_id="t", uri="p", experiment="e").on_kill()
