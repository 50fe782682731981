"""How an operator hands its wait for a connector to the triggerer."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import BaseOperator

    from airflow_mlplatform.connectors.strimzi import StrimziCluster
    from airflow_mlplatform.connectors.waiting import ConnectorWait

__all__ = ["seconds_to_wait", "wait_in_triggerer"]

GRACE = 60.0
"""Seconds by which Airflow's own timeout comes after ours, after which there is still something to do."""


def seconds_to_wait(operator: BaseOperator, timeout: float) -> float:
    """Return for how long a task waits: fewer seconds if its own ``execution_timeout`` would come before."""
    limit = operator.execution_timeout
    return timeout if limit is None else max(1.0, min(timeout, limit.total_seconds() - GRACE))


def wait_in_triggerer(
    operator: BaseOperator,
    wait: ConnectorWait,
    place: str | StrimziCluster,
    timeout: float,
    kwargs: Mapping[str, Any] | None = None,
) -> NoReturn:
    """Defer a task; its ``execute_complete`` is called with the event.

    :param operator: whose task it is.
    :param wait: what is waited for.
    :param place: Airflow connection of the Connect cluster, or a cluster of Strimzi.
    :param timeout: seconds, as :func:`seconds_to_wait` takes them.
    :param kwargs: further arguments of ``execute_complete``.
    """
    # Importing Airflow's triggers takes time that parsing a DAG need not spend.
    from airflow_mlplatform.triggers.kafka_connect import KafkaConnectorTrigger

    seconds = seconds_to_wait(operator, timeout)
    operator.defer(
        trigger=KafkaConnectorTrigger(
            wait=wait.model_dump(mode="json"),
            deadline=datetime.now(UTC).timestamp() + seconds,
            **({"kafka_connect_conn_id": place} if isinstance(place, str) else {"strimzi": asdict(place)}),
        ),
        method_name="execute_complete",
        kwargs=dict(kwargs or {}),
        timeout=timedelta(seconds=seconds + GRACE),
    )
