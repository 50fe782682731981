"""The pause of a rollout: whom it asks, what watches meanwhile, how it ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from airflow.providers.standard.operators import hitl
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_mlplatform.operators.step_approval import SeldonStepApprovalOperator
from airflow_mlplatform.triggers.step_approval import Asked, SeldonStepApprovalTrigger
from airflow_mlplatform.triggers.task import TaskEnding

TI = UUID("01234567-89ab-cdef-0123-456789abcdef")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Airflow was told to ask."""
    questions: list[dict[str, Any]] = []
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **question: questions.append(question))
    return questions


def operator() -> SeldonStepApprovalOperator:
    return SeldonStepApprovalOperator(
        task_id="approve_step",
        subject="Go on?",
        assigned_users=[{"id": "ann", "name": "ann"}],
        response_timeout=timedelta(hours=2),
        resumes="deploy",
        serving={"name": "wine"},
        model={"name": "wine", "version": 2},
        rollout={"strategy": "canary", "steps": [50, 100], "pause": {"after": 50, "users": ["ann"]}},
    )


def context() -> Any:
    ti = SimpleNamespace(
        id=TI,
        dag_id="wine",
        run_id="run",
        task_id="approve_step",
        map_index=-1,
        try_number=1,
        log_url="http://a/dags/x",
    )
    return {"ti": ti, "task_instance": ti}


def test_it_asks_and_hands_the_watch_to_the_triggerer(asked: list[dict[str, Any]]) -> None:
    with pytest.raises(TaskDeferred) as raised:
        operator().execute(context())
    (question,) = asked
    assert (question["ti_id"], question["options"], question["defaults"]) == (TI, ["Approve", "Reject"], ["Reject"])
    assert question["assigned_users"] == [{"id": "ann", "name": "ann"}]
    trigger = raised.value.trigger
    assert isinstance(trigger, SeldonStepApprovalTrigger)
    # Airflow's own time-out would fail the task, where no answer is an answer too.
    assert raised.value.timeout is None
    until = Asked.model_validate(trigger.asked).until
    assert timedelta(hours=1) < until - datetime.now(UTC) <= timedelta(hours=2)
    assert (trigger.answer, trigger.plan["resumes"]) == ("awaited", "deploy")


def test_an_answer_is_the_result() -> None:
    event = {"chosen_options": ["Approve"], "params_input": {}, "responded_at": datetime.now(UTC)}
    result = operator().execute_complete(context(), {**event, "responded_by_user": {"id": "ann", "name": "ann"}})
    assert result["chosen_options"] == ["Approve"]


@pytest.mark.parametrize("ending", ["mistake", "failed"])
def test_a_rollout_that_failed_meanwhile_is_not_asked_about_again(ending: Any) -> None:
    event = TaskEnding(ending=ending, message="the analysis failed at 50 %").model_dump(mode="json")
    with pytest.raises(AirflowFailException, match=r"the analysis failed at 50 %\nTo begin .* clear its first task"):
        operator().execute_complete(context(), event)
