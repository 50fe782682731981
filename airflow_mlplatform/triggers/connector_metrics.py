"""What is seen of a Kafka connector while a task waits for it, as metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlplatform.metrics import CONNECTOR_FAILED_TASKS, CONNECTOR_STATE

if TYPE_CHECKING:
    from airflow_mlplatform.clients.kafka_connect_entities import ConnectorStatus

__all__ = ["report"]

ABSENT = "absent"


def report(connector: str, status: ConnectorStatus | None, former: ConnectorStatus | None) -> None:
    """Report a change.

    :param status: how it does; ``None`` if it does not exist.
    :param former: the same before.
    """
    CONNECTOR_STATE.set(0, connector=connector, state=_state(former))
    CONNECTOR_STATE.set(1, connector=connector, state=_state(status))
    failed = [task for task in status.tasks if task.state == "FAILED"] if status else []
    CONNECTOR_FAILED_TASKS.set(len(failed), connector=connector)


def _state(status: ConnectorStatus | None) -> str:
    return status.state if status else ABSENT
