from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed
from airflow_mlplatform.operators.stream_app import StreamAppOperator
from airflow_mlplatform.triggers.stream_app import StreamAppTrigger

APP = {"image": "example:1", "group": "g", "env": {"DAY": "{{ ds }}"}}


def operator(**more: Any) -> StreamAppOperator:
    return StreamAppOperator(task_id="t", **{"name": "shop", "app": APP, **more})


def context() -> Any:
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=2, log_url="http://airflow")
    return {"ti": ti}


def test_it_starts_in_the_triggerer_with_all_that_is_needed() -> None:
    made = operator(state="paused", pod={"service_account": "apps"})
    assert made.start_from_trigger
    arguments = made.start_trigger_args.trigger_kwargs
    path, kept = StreamAppTrigger(**arguments).serialize()
    assert path == "airflow_mlplatform.triggers.stream_app.StreamAppTrigger"
    assert StreamAppTrigger(**kept).serialize()[1] == arguments
    assert (kept["plan"]["state"], kept["plan"]["pod"]) == ("paused", {"service_account": "apps"})


def test_a_worker_hands_over_what_only_it_can_render() -> None:
    made = operator(app={**APP, "image": "{{ ti.xcom_pull('build') }}"})
    assert not made.start_from_trigger
    with pytest.raises(TaskDeferred) as deferred:
        made.execute(context())
    assert deferred.value.trigger.origin["try_number"] == 2


def test_the_event_ends_the_task() -> None:
    result = {"deployment": "shop", "done": "created"}
    assert operator().execute_complete(context(), {"ending": "done", "result": result}) == result
    with pytest.raises(AirflowFailException, match="wrong image"):
        operator().execute_complete(context(), {"ending": "mistake", "message": "wrong image"})
    with pytest.raises(ProcessFailed, match="rolled back"):
        operator().execute_complete(context(), {"ending": "failed", "message": "rolled back"})
    with pytest.raises(TaskDeferred):
        operator().execute_complete(context(), {"ending": "over", "message": "templates"})
    for strange in ({"status": "success"}, None, "done", {"ending": "done", "rows": 1}):
        with pytest.raises(AirflowFailException, match="is none of a task in the triggerer"):
            operator().execute_complete(context(), strange)


def test_mistakes_are_told_while_the_dag_is_built() -> None:
    with pytest.raises(ConfigurationError, match="task t: app.imgae: Extra inputs"):
        operator(app={"imgae": "x"})
    with pytest.raises(ConfigurationError, match="task t: app: no image is named"):
        operator(app={"group": "g"})
    with pytest.raises(ConfigurationError, match=r"task t: app\.env\.P: the password of the Airflow connection"):
        operator(app={**APP, "env": {"P": {"connection": "c"}}})
