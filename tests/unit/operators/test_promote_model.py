from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlplatform.clients.http import drive
from airflow_mlplatform.exceptions import ServiceUnavailable
from airflow_mlplatform.hooks.mlflow import MlflowHook
from airflow_mlplatform.metrics import PROMOTIONS
from airflow_mlplatform.operators.promote_model import PromoteModelOperator
from airflow_mlplatform.promotion.verdict import encode_verdict
from airflow_mlplatform.promotion.waiting import look
from airflow_mlplatform.specs.deployment import Gate, ModelRef
from tests.unit.promotion.fake_registry import FakeRegistry, down
from tests.unit.recorded_metrics import recording

if TYPE_CHECKING:
    from airflow_mlplatform.clients.mlflow import MlflowClient


class TaskInstance:
    """Who promotes, and what it pushes."""

    dag_id, run_id, task_id = "deploy", "manual__1", "promote"
    try_number, log_url = 1, "http://airflow.test"

    def __init__(self, map_index: int = -1) -> None:
        self.map_index = map_index
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    fake = FakeRegistry()

    def client(hook: MlflowHook) -> MlflowClient:
        assert hook.connection
        return fake.client()

    monkeypatch.setattr(MlflowHook, "client", client)
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", '{"conn_type": "mlflow", "host": "http://mlflow.test"}')
    return fake


def verdict(registry: FakeRegistry) -> Any:
    found, _ = drive(look(ModelRef(name="wine"), Gate()), registry.client().http)
    return json.loads(json.dumps(encode_verdict(found)))


def promote(what: Any, ti: TaskInstance | None = None) -> dict[str, Any]:
    return PromoteModelOperator(task_id="promote", verdict=what).execute({"ti": ti or TaskInstance()})  # type: ignore[typeddict-item]


def test_the_candidate_becomes_champion(registry: FakeRegistry) -> None:
    registry.train(alias="champion")
    registry.train(alias="challenger")
    ti = TaskInstance()
    assert promote(verdict(registry), ti) == {"name": "wine", "version": 2, "model_uri": "models:/wine/2", "former": 1}
    assert registry.alias("champion") == 2
    assert ti.xcoms == {"model_version_url": "http://mlflow.test/#/models/wine/versions/2"}
    assert registry.tags(2)["mlplatform.promoted_by"] == "deploy/manual__1/promote"


def test_mapped_tasks_are_different_owners(registry: FakeRegistry) -> None:
    registry.train(alias="challenger")
    promote(verdict(registry), TaskInstance(map_index=3))
    assert registry.tags(1)["mlplatform.promoted_by"] == "deploy/manual__1/promote[3]"


def test_a_retry_after_success_gives_the_same(registry: FakeRegistry) -> None:
    registry.train(alias="challenger")
    found = verdict(registry)
    with recording() as recorder:
        assert promote(found) == promote(found)
    assert recorder.of(PROMOTIONS) == {("wine",): 1}


def test_a_conflict_is_not_retried(registry: FakeRegistry) -> None:
    registry.train(alias="challenger")
    found = verdict(registry)
    registry.train(alias="champion")
    with pytest.raises(AirflowFailException, match="run the DAG again"):
        promote(found)


def test_an_outage_is_retried(registry: FakeRegistry) -> None:
    registry.train(alias="challenger")
    found = verdict(registry)
    registry.fault = down
    with pytest.raises(ServiceUnavailable):
        promote(found)


def test_what_is_no_verdict_fails_at_once(registry: FakeRegistry) -> None:
    with pytest.raises(AirflowFailException, match="sensor"):
        promote(None)


def test_no_candidate_is_nothing_to_promote(registry: FakeRegistry) -> None:
    with pytest.raises(AirflowFailException, match="Nothing is promoted"):
        promote(verdict(registry))
