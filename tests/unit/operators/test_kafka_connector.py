"""The operators of connectors where no Kafka Connect is needed to see what they do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_mlplatform import KafkaConnectorOperator, StrimziCluster
from airflow_mlplatform.connectors.waiting import ConnectorWait
from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.triggers.kafka_connect_wait import wait_in_triggerer

SECRET = "hunter2-and-more"
CONFIG = {"connector.class": "a.B", "database.password": SECRET, "note": f"it is {SECRET}", "day": "{{ ds }}"}


def test_rendered_fields_show_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.log import redact

    operator = KafkaConnectorOperator(task_id="a_task", name="{{ ds }}", config=CONFIG)
    operator.render_template_fields({"ds": "2026-01-01"})  # type: ignore[typeddict-item]
    assert (operator.name, operator.config["day"]) == ("2026-01-01", "2026-01-01")  # type: ignore[index]
    assert SECRET not in str(redact(operator.config))


def test_arguments_are_checked_while_the_dag_is_read() -> None:
    with pytest.raises(ConfigurationError, match="write running or caught_up"):
        KafkaConnectorOperator(task_id="a_task", name="c", wait_until="later")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="settle, 60 s, is no shorter than timeout, 60 s"):
        KafkaConnectorOperator(task_id="a_task", name="c", settle=60.0, timeout=60.0)


def test_reading_a_dag_asks_nobody() -> None:
    with DAG("a_dag"):
        KafkaConnectorOperator(
            task_id="a_task", name="c", kafka_connect_conn_id="nowhere", strimzi=StrimziCluster("ns", "connect")
        )


def test_mistakes_are_not_retried() -> None:
    class TaskInstance:
        def xcom_push(self, key: str, value: Any) -> None:
            raise AssertionError

    context: Any = {"ti": TaskInstance()}
    for arguments in ({"state": "on"}, {"config": {"a": 1}}, {"config": "{}"}, {"kafka_connect_conn_id": "nowhere"}):
        with pytest.raises(AirflowFailException):
            KafkaConnectorOperator(task_id="a_task", **{"name": "c", **arguments}).execute(context)


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [(None, 600), (timedelta(seconds=300), 240), (timedelta(seconds=10), 1), (timedelta(days=1), 600)],
)
def test_ours_comes_before_airflows_own_timeout(limit: timedelta | None, seconds: float) -> None:
    operator = KafkaConnectorOperator(task_id="a_task", name="c", execution_timeout=limit)
    with pytest.raises(TaskDeferred) as deferred:
        wait_in_triggerer(operator, ConnectorWait(name="c", state="running"), "workers", operator.timeout)
    assert deferred.value.timeout == timedelta(seconds=seconds + 60)
    assert deferred.value.trigger.serialize()[1]["kafka_connect_conn_id"] == "workers"


def test_the_trigger_of_strimzi_knows_its_cluster() -> None:
    cluster = StrimziCluster("ns", "connect", "k8s")
    operator = KafkaConnectorOperator(task_id="a_task", name="c", strimzi=cluster)
    with pytest.raises(TaskDeferred) as deferred:
        wait_in_triggerer(operator, ConnectorWait(name="c", state="running"), cluster, 5.0)
    told = deferred.value.trigger.serialize()[1]["strimzi"]
    assert StrimziCluster(**told) == cluster
