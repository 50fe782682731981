"""A restart of a Kafka connector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_mlplatform.connectors.change import state_of
from airflow_mlplatform.connectors.waiting import ConnectorEvent, ConnectorWait
from airflow_mlplatform.exceptions import ConfigurationError, ConnectorFailed, NotFound
from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.hooks.kafka_connect import KafkaConnectHook
from airflow_mlplatform.links import KafkaConnectorLink
from airflow_mlplatform.operators.kafka_connector_place import open_connectors
from airflow_mlplatform.triggers.kafka_connect_wait import wait_in_triggerer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_mlplatform.connectors.strimzi import StrimziCluster

__all__ = ["KafkaConnectorRestartOperator"]


class KafkaConnectorRestartOperator(BaseOperator):
    """Restart a connector with its tasks and wait, without a worker, until all of it is as it was meant to be.

    To pause, stop or resume: :class:`~airflow_mlplatform.operators.kafka_connector.KafkaConnectorOperator` with a
    ``state`` and no ``config``. XCom (return value): ``state``, ``tasks``, ``kind``, ``version``.

    :param name: the connector. Templated.
    :param only_failed: restart only what has failed.
    :param settle: seconds for which the state has to last before it is believed.
    :param timeout: seconds until the task gives up.
    :param kafka_connect_conn_id: Airflow connection (type kafka_connect).
    :param strimzi: a Connect cluster whose connectors are resources of Strimzi, which is asked instead.
    """

    template_fields: Sequence[str] = ("name",)
    operator_extra_links = (KafkaConnectorLink(),)
    ui_color = "#e3dcf5"

    def __init__(
        self,
        *,
        name: str,
        only_failed: bool = False,
        settle: float = 10.0,
        timeout: float = 600.0,
        kafka_connect_conn_id: str = KafkaConnectHook.default_conn_name,
        strimzi: StrimziCluster | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.only_failed = only_failed
        self.settle = settle
        self.timeout = timeout
        self.kafka_connect_conn_id = kafka_connect_conn_id
        self.strimzi = strimzi

    def execute(self, context: Context) -> None:
        """Restart, and wait in the triggerer."""
        with failing_fast():
            with open_connectors(self, context) as connectors:
                present = connectors.get(self.name)
                if present is None:
                    raise NotFound(f"there is no connector {self.name!r} to restart; correct its name")
                connectors.restart(self.name, self.only_failed)
            wait = ConnectorWait(name=self.name, state=state_of(present), settle=self.settle)
            wait_in_triggerer(self, wait, self.strimzi or self.kafka_connect_conn_id, self.timeout)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """End the task as the trigger's event says."""
        with failing_fast():
            told = ConnectorEvent.decode(event)
            if told.ending == "mistake":
                raise ConfigurationError(told.message)
            if told.ending != "done":
                raise ConnectorFailed(f"connector {self.name}: {told.message}")
            return told.status.model_dump(mode="json")
