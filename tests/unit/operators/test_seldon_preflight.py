"""What the preflight on Seldon hands to the triggerer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.operators.seldon_preflight import SeldonPreflightOperator
from airflow_mlplatform.specs.deployment import Serving
from airflow_mlplatform.triggers.preflight import PreflightPlan, PreflightTrigger

SERVING = {"name": "wine", "namespace": "models", "storage_secret": "s3"}


def operator(**more: Any) -> SeldonPreflightOperator:
    return SeldonPreflightOperator(task_id="t", **{"model": "models:/wine@challenger", "serving": SERVING, **more})


def test_it_starts_in_the_triggerer_with_all_that_is_needed() -> None:
    made = operator(answer_timeout=timedelta(seconds=7), mlflow_conn_id="registry")
    assert made.start_from_trigger
    arguments = made.start_trigger_args.trigger_kwargs
    path, kept = PreflightTrigger(**arguments).serialize()
    assert path == SeldonPreflightOperator.trigger_path
    assert PreflightTrigger(**kept).serialize()[1] == arguments
    plan = PreflightTrigger(**kept).read_plan(PreflightPlan)
    assert (plan.answer_seconds, plan.mlflow_conn_id, plan.by_worker) == (7.0, "registry", False)


def test_only_what_was_given_wins_over_a_template() -> None:
    assert operator(serving=Serving.model_validate(SERVING)).serving == SERVING


def test_mistakes_are_told_while_the_dag_is_built() -> None:
    with pytest.raises(ConfigurationError, match=r"serving.replicas: Input should be greater"):
        operator(serving={**SERVING, "replicas": 0})
