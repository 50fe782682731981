from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed, UnsupportedHere
from airflow_mlplatform.operators.container_transform import ContainerTransformOperator
from airflow_mlplatform.settings import settings
from airflow_mlplatform.triggers.container_transform import ContainerTransformTrigger

CONTAINER = {"image": "example/clean:1", "env": {"DAY": "{{ ds }}"}}
FACTS = {"uri": "s3://staging/x", "rows": 1, "bytes": 2, "schema_hash": "h"}


@pytest.fixture(autouse=True)
def kubernetes(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AIRFLOW__MLPLATFORM__RUNTIME", "kubernetes")
    settings.cache_clear()
    yield
    settings.cache_clear()


def operator(**more: Any) -> ContainerTransformOperator:
    return ContainerTransformOperator(task_id="t", input="extract", **{"transform": CONTAINER, **more})


def context(map_index: int = -1) -> Any:
    ti = SimpleNamespace(
        id="0199", dag_id="d", run_id="r", task_id="t", map_index=map_index, try_number=2, log_url="http://airflow"
    )
    return {"ti": ti}


def test_the_trigger_gets_all_that_it_needs() -> None:
    start = operator(split={"extract": "list"}).start_trigger_args
    assert start is not None
    arguments = start.trigger_kwargs or {}
    path, kept = ContainerTransformTrigger(**arguments).serialize()
    assert path == "airflow_mlplatform.triggers.container_transform.ContainerTransformTrigger"
    assert ContainerTransformTrigger(**kept).serialize()[1] == arguments
    assert kept["plan"]["listing"] == "list"


def test_a_worker_hands_over_what_it_knows() -> None:
    part = {"part": 0, "of": 2, "listing": "x", "files": 1, "bytes": 5}
    given = context(0)
    with pytest.raises(TaskDeferred) as deferred:
        operator(part=part).execute(given)
    trigger = deferred.value.trigger
    assert isinstance(trigger, ContainerTransformTrigger)
    assert (trigger.attempt, trigger.part) == ("0199", part)
    assert trigger.origin is not None
    assert trigger.origin["try_number"] == 2
    assert given["map_index_template"] == "{{ task.part_label }}"
    assert operator(part=part).part_label == "part 1 of 2: 1 file, 5 bytes"


def test_the_event_ends_the_task() -> None:
    assert operator().execute_complete(context(), {"ending": "done", "result": FACTS}) == FACTS
    with pytest.raises(AirflowFailException, match="wrong image"):
        operator().execute_complete(context(), {"ending": "mistake", "message": "wrong image"})
    with pytest.raises(ProcessFailed, match="node lost"):
        operator().execute_complete(context(), {"ending": "failed", "message": "node lost"})
    with pytest.raises(TaskDeferred):
        operator().execute_complete(context(), {"ending": "over", "message": "templates"})
    for strange in ({"status": "success"}, None, "done", {"ending": "done", "rows": 1}):
        with pytest.raises(AirflowFailException, match="is none of a task in the triggerer"):
            operator().execute_complete(context(), strange)


def test_what_cannot_be_is_told_while_the_dag_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"task t: transform\.imgae: Extra inputs"):
        operator(transform={"imgae": "x"})
    with pytest.raises(ConfigurationError, match=r"transform\.env\.P: the password of the Airflow connection"):
        operator(transform={"image": "x", "env": {"P": {"connection": "c"}}})
    monkeypatch.setenv("AIRFLOW__MLPLATFORM__RUNTIME", "local")
    settings.cache_clear()
    with pytest.raises(UnsupportedHere, match="task t: a container transform .* needs Kubernetes and the runtime is l"):
        operator()
