from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException, TaskDeferred
from airflow.serialization.serialized_objects import DagSerialization

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.promotion.waiting import PromotionEvent, encode_event
from airflow_mlplatform.sensors.model_promotion import ModelPromotionSensor
from airflow_mlplatform.specs.deployment import Gate, GateMetric, ModelRef
from airflow_mlplatform.triggers.model_promotion import ModelPromotionTrigger
from tests.unit.promotion.fake_registry import FakeRegistry, down, unauthorised

GATE = {"metrics": [{"name": "rmse", "max": 0.9}]}


class TaskInstance:
    """What a task pushes, by key."""

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


@pytest.fixture
def ti() -> TaskInstance:
    return TaskInstance()


def sensor(**more: Any) -> ModelPromotionSensor:
    arguments: dict[str, Any] = {"task_id": "gate", "model": {"name": "wine"}, "gate": GATE, **more}
    return ModelPromotionSensor(**arguments)


def trigger_of(one: ModelPromotionSensor) -> ModelPromotionTrigger:
    """The trigger with which the scheduler starts the task."""
    assert one.start_from_trigger
    assert one.start_trigger_args is not None
    kwargs = one.start_trigger_args.trigger_kwargs
    return ModelPromotionTrigger(**json.loads(json.dumps(kwargs)))


def test_it_starts_in_the_triggerer_and_the_class_does_not() -> None:
    one = trigger_of(sensor(on_refusal="skip", poll_interval=3, mlflow_conn_id="other"))
    assert (one.model, one.gate, one.on_refusal) == ({"name": "wine"}, GATE, "skip")
    assert (one.poll_interval, one.mlflow_conn_id, one.deadline) == (3, "other", None)
    assert ModelPromotionSensor.start_from_trigger is False  # .expand() fails with True


def test_spec_models_and_dictionaries_mean_the_same() -> None:
    models = sensor(model=ModelRef(name="wine"), gate=Gate(metrics=[GateMetric(name="rmse", max=0.9)], max_age="7d"))
    dictionaries = sensor(gate={**GATE, "max_age": "7d"})
    for one in (models, dictionaries):
        trigger_of(one)
    assert Gate.model_validate(models.gate, strict=False) == Gate.model_validate(dictionaries.gate, strict=False)


def test_every_templated_field_is_an_argument_and_attribute_of_the_trigger() -> None:
    one = sensor()
    trigger = trigger_of(one)
    assert one.start_trigger_args is not None
    assert set(one.template_fields) <= set(one.start_trigger_args.trigger_kwargs or {})
    assert all(hasattr(trigger, name) for name in one.template_fields)


def test_it_survives_the_serialized_dag() -> None:
    with DAG("d", schedule=None) as dag:
        sensor(gate={**GATE, "tags": {"a": "{{ params.b }}"}}, timeout=600)
    copy = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag)))).get_task("gate")
    assert copy.start_from_trigger
    assert copy.start_trigger_args is not None
    assert copy.start_trigger_args.next_method == "execute_complete"
    assert copy.start_trigger_args.timeout == timedelta(seconds=630)


@pytest.mark.parametrize("reference", ["output", "pull"])
def test_arguments_from_other_tasks_start_it_on_a_worker(reference: str) -> None:
    with DAG("d", schedule=None):

        @task
        def who() -> str:
            return "wine"

        name = who() if reference == "output" else "{{ ti.xcom_pull('who') }}"
        one = sensor(model={"name": name})
    assert not one.start_from_trigger
    assert one.upstream_task_ids == ({"who"} if reference == "output" else set())


def test_airflows_timeout_leaves_time_to_say_what_was_waited_for() -> None:
    assert trigger_of(sensor(timeout=60)).grace == 30
    assert trigger_of(sensor(timeout=60, execution_timeout=timedelta(seconds=50))).grace == 0
    assert trigger_of(sensor(timeout=60, execution_timeout=timedelta(hours=1))).grace == 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": {"nmae": "wine"}}, "model.name"),
        ({"model": {"name": "wine", "candidate": "x", "champion": "x"}}, "give them different aliases"),
        ({"gate": {"metrics": [{"name": "rmse"}]}}, "nothing is asked"),
        ({"gate": {"metric": []}}, "gate.metric"),
        ({"on_refusal": "cry"}, "wait, skip or fail"),
    ],
)
def test_mistakes_are_told_when_the_dag_is_parsed(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        sensor(**arguments)


def test_what_a_template_will_give_is_not_judged_before() -> None:
    sensor(gate={"metrics": [{"name": "rmse", "max": "{{ params.limit }}"}]})


def test_on_a_worker_it_defers_with_an_absolute_deadline(ti: TaskInstance) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        sensor(timeout=60, execution_timeout=timedelta(seconds=50)).execute({"ti": ti})  # type: ignore[typeddict-item]
    trigger = deferred.value.trigger
    assert isinstance(trigger, ModelPromotionTrigger)
    assert trigger.deadline is not None
    assert deferred.value.timeout == timedelta(seconds=90)
    assert deferred.value.method_name == "execute_complete"


def complete(ti: TaskInstance, event: Any, **more: Any) -> Any:
    payload = encode_event(event) if isinstance(event, PromotionEvent) else event
    return sensor(**more).resume_execution("execute_complete", {"event": payload}, {"ti": ti})  # type: ignore[typeddict-item]


VERDICT: dict[str, Any] = {"promote": True}


def event(ending: Any, verdict: dict[str, Any] | None = VERDICT) -> PromotionEvent:
    return PromotionEvent(ending=ending, message="because", verdict=verdict, url="http://m/1")


def test_a_promotion_returns_the_verdict_and_records_the_url(ti: TaskInstance) -> None:
    assert complete(ti, event("promoted")) == VERDICT
    assert ti.xcoms["model_version_url"] == "http://m/1"


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        ("skipped", AirflowSkipException),
        ("refused", AirflowFailException),
        ("timeout", AirflowSensorTimeout),
        ("error", AirflowFailException),
    ],
)
def test_other_endings_leave_the_verdict_behind(ti: TaskInstance, ending: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="because"):
        complete(ti, event(ending))
    assert ti.xcoms.get("return_value") == (None if ending == "error" else VERDICT)


def test_soft_fail_skips_at_the_timeout(ti: TaskInstance) -> None:
    with pytest.raises(AirflowSkipException):
        complete(ti, event("timeout"), soft_fail=True)


@pytest.mark.parametrize("payload", [None, "success", {}, {"ending": "promoted"}, {"status": "success"}])
def test_an_event_that_is_not_understood_is_a_failure(ti: TaskInstance, payload: object) -> None:
    with pytest.raises(AirflowFailException, match="same version of airflow-mlplatform"):
        complete(ti, payload)
    assert ti.xcoms == {}


def here(ti: TaskInstance, **more: Any) -> Any:
    one = sensor(deferrable=False, poke_interval=0.01, timeout=0.2, **more)
    return one.execute({"ti": ti})  # type: ignore[typeddict-item]


def test_it_can_wait_on_a_worker_too(registry: FakeRegistry, ti: TaskInstance) -> None:
    registry.train(alias="challenger", rmse=0.8)
    verdict = here(ti)
    assert verdict["promote"] is True
    assert ti.xcoms["model_version_url"].endswith("/models/wine/versions/1")
    assert registry.tags(1)["mlplatform.verdict"] == "promote"
    assert not sensor(deferrable=False).start_from_trigger


@pytest.mark.parametrize(
    ("on_refusal", "error"),
    [("wait", AirflowSensorTimeout), ("skip", AirflowSkipException), ("fail", AirflowFailException)],
)
def test_refusals_on_a_worker(
    registry: FakeRegistry, ti: TaskInstance, on_refusal: str, error: type[Exception]
) -> None:
    registry.train(alias="challenger", rmse=2.0)
    with pytest.raises(error):
        here(ti, on_refusal=on_refusal)


def test_an_outage_on_a_worker_is_borne_until_the_timeout(registry: FakeRegistry, ti: TaskInstance) -> None:
    registry.fault = down
    with pytest.raises(AirflowSensorTimeout):
        here(ti)


def test_a_refused_request_on_a_worker_fails_at_once(registry: FakeRegistry, ti: TaskInstance) -> None:
    registry.fault = unauthorised
    with pytest.raises(AirflowFailException, match="correct login, password or token"):
        here(ti)
