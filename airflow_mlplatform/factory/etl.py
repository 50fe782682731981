"""``kind: etl`` → a DAG: a task a stage, or one for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_mlplatform.factory.dag import new_dag
from airflow_mlplatform.operators.etl import EtlOperator
from airflow_mlplatform.operators.etl_stage import EtlStageOperator
from airflow_mlplatform.operators.etl_stages import CheckOperator, ExtractOperator, LoadOperator, TransformOperator
from airflow_mlplatform.specs.etl import Etl, Source

__all__ = ["build_etl"]


def build_etl(spec: Etl, path: Path, shown: str) -> DAG:
    """Build the DAG of an ETL spec."""
    with new_dag(spec, path, shown) as dag:
        where = {"memory": spec.defaults.resources.memory, "search_path": str(path.parent), "env": spec.defaults.env}
        if spec.stages == "fused":
            EtlOperator(
                task_id="etl",
                extract=spec.sources,
                transform=spec.transform,
                checks=spec.checks,
                load=spec.load,
                **where,
            )
        else:
            _separate(spec, where)
    return dag


def _separate(spec: Etl, where: dict[str, Any]) -> None:
    extracts = {_table(source): _extract(source, where) for source in spec.sources}
    inputs = {table: task.task_id for table, task in extracts.items()}
    last: list[EtlStageOperator] = list(extracts.values())
    for number, transform in enumerate(spec.transform, start=1):
        task: EtlStageOperator = TransformOperator(
            task_id=f"transform_{number}", transforms=[transform], inputs=inputs, **where
        )
        last >> task
        inputs, last = {**inputs, "input": task.task_id}, [task]
    staged = last[0].task_id
    if spec.checks:
        check = CheckOperator(task_id="check", checks=spec.checks, input=staged, **where)
        last >> check
        last = [check]
    last >> LoadOperator(task_id="load", load=spec.load, input=staged, **where)


def _table(source: Source) -> str:
    return source.name or "input"


def _extract(source: Source, where: dict[str, Any]) -> ExtractOperator:
    task_id = f"extract_{source.name}" if source.name else "extract"
    return ExtractOperator(task_id=task_id, source=source, **where)
