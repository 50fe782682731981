"""Versions and runs as MLflow would tell of them, with only what a test cares about written out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_mlplatform.clients.mlflow_entities import ModelVersion, Run
from airflow_mlplatform.promotion.judge import Contender
from airflow_mlplatform.specs.deployment import ModelRef

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WINE = ModelRef(name="wine")


def version(number: int = 2, *, age: timedelta = timedelta(hours=1), **more: Any) -> ModelVersion:
    return ModelVersion(
        **{
            "name": "wine",
            "version": number,
            "run_id": f"run-{number}",
            "source": "",
            "model_id": "",
            "creation_time": NOW - age,
            **more,
        }
    )


def run(metrics: dict[str, float], status: str = "FINISHED") -> Run:
    return Run("run", "1", "", status, None, None, "", metrics=metrics)  # type: ignore[arg-type]


def contender(number: int = 2, status: str = "FINISHED", **metrics: float) -> Contender:
    return Contender(version(number), run(metrics, status))
