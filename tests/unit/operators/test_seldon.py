"""Operators for SeldonDeployments: where they start, what they hand over, and how they end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed
from airflow_mlplatform.operators.seldon_actions import (
    SeldonRollbackOperator,
    SeldonScaleOperator,
    SeldonTeardownOperator,
)
from airflow_mlplatform.operators.seldon_deploy import SeldonDeployOperator
from airflow_mlplatform.operators.turn import TurnOperator
from airflow_mlplatform.sensors.model_promotion import ModelPromotionSensor
from airflow_mlplatform.specs.deployment import Serving
from airflow_mlplatform.triggers.seldon_deploy import SeldonDeployTrigger
from airflow_mlplatform.triggers.turn import TurnTrigger

SERVING = {"name": "wine", "namespace": "models"}
ALL = [
    (SeldonDeployOperator, {"model": "models:/wine/3"}),
    (SeldonRollbackOperator, {"model": {"name": "wine"}}),
    (SeldonScaleOperator, {"replicas": "{{ params.replicas }}"}),
    (SeldonTeardownOperator, {}),
]


def deploy(**more: Any) -> SeldonDeployOperator:
    return SeldonDeployOperator(**{"task_id": "t", "serving": SERVING, "model": "models:/wine/3", **more})


def started(made: Any) -> dict[str, Any]:
    found: dict[str, Any] = made.start_trigger_args.trigger_kwargs
    return found


def context() -> Any:
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=2, log_url="http://a/dags/d")
    return {"ti": ti}


@pytest.mark.parametrize(("kind", "arguments"), ALL)
def test_they_start_in_the_triggerer_with_all_that_is_needed(kind: Any, arguments: dict[str, Any]) -> None:
    made = kind(task_id="t", serving=SERVING, only_if="{{ params.x }}", **arguments)
    assert made.start_from_trigger
    kept = started(made)
    trigger = made._trigger()(**kept)
    path, again = trigger.serialize()
    assert path == made.trigger_path
    assert again == kept
    assert set(made.template_fields) <= set(again)


def test_the_result_of_another_task_is_fetched_by_the_triggerer() -> None:
    with DAG("d"):
        gate = ModelPromotionSensor(task_id="gate", model={"name": "wine"})
        made = deploy(model=gate.output)
        nested = deploy(task_id="u", model={"name": "wine", "version": gate.output})
    assert started(made)["model"] == {"from_task": "gate"}
    assert made.upstream_task_ids == {"gate"}
    assert not nested.start_from_trigger


def test_a_worker_hands_over_what_only_it_can_render() -> None:
    made = deploy(model="{{ ti.xcom_pull('gate') }}")
    assert not made.start_from_trigger
    with pytest.raises(TaskDeferred) as deferred:
        made.execute(context())
    assert isinstance(deferred.value.trigger, SeldonDeployTrigger)
    assert (deferred.value.trigger.origin or {})["try_number"] == 2


def test_only_the_keys_that_were_given_are_handed_over() -> None:
    given = Serving.model_validate({**SERVING, "ready_timeout": "5m"}, strict=False)
    handed = started(deploy(serving=given))["serving"]
    assert set(handed) == {"name", "namespace", "ready_timeout"}
    assert Serving.model_validate(handed, strict=False) == given


def test_the_event_ends_the_task() -> None:
    def end(**event: Any) -> Any:
        return deploy().execute_complete(context(), event)

    assert end(ending="done", result={"result": "done"}) == {"result": "done"}
    with pytest.raises(AirflowSkipException, match="did not win"):
        end(ending="done", result={"result": "kept"})
    with pytest.raises(AirflowFailException, match="bad metrics"):
        end(ending="mistake", message="bad metrics")
    with pytest.raises(ProcessFailed, match="operator"):
        end(ending="failed", message="operator away")
    with pytest.raises(TaskDeferred):
        end(ending="over", message="templates")
    with pytest.raises(AirflowFailException, match="is none of a task in the triggerer"):
        deploy().execute_complete(context(), "done")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"serving": {"nmae": "wine"}}, r"serving\..*: "),
        ({"rollout": {"strategy": "canary"}}, "canary needs steps"),
        ({"rollout": {"strategy": "blue"}}, r"rollout\.strategy"),
    ],
)
def test_mistakes_are_told_while_the_dag_is_built(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        deploy(**arguments)


def test_the_turn_starts_in_the_triggerer_and_an_event_not_understood_is_a_failure() -> None:
    made = TurnOperator(task_id="turn", only_if="{{ params.x }}")
    kept = started(made)
    assert TurnTrigger(**kept).serialize()[1] == kept
    with pytest.raises(TaskDeferred):
        made.execute_complete(context(), {"over": "a template"})
    with pytest.raises(AirflowFailException, match="none of TurnTrigger"):
        made.execute_complete(context(), {"status": "success"})
