"""What the tests of the factory share: DAGs of spec texts, as Airflow keeps them."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from airflow_mlplatform.factory.build import build_dag
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.load import load_text

__all__ = ["arrows", "build", "kubernetes"]


@pytest.fixture
def kubernetes(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("kubernetes")
    monkeypatch.setenv("AIRFLOW__MLPLATFORM__RUNTIME", "kubernetes")
    settings.cache_clear()
    yield
    settings.cache_clear()


def build(text: str) -> DAG:
    dag = build_dag(load_text(text)[0])
    DagSerialization.to_dict(dag)
    return dag


def arrows(dag: DAG) -> dict[str, set[str]]:
    return {task.task_id: set(task.downstream_task_ids) for task in dag.tasks}
