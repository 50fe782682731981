"""Waits for the health of a Kafka connector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout

from airflow_mlplatform.connectors.waiting import ConnectorEvent, ConnectorWait, StatusFacts
from airflow_mlplatform.connectors.wish import Wish, fulfilled
from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable
from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.hooks.kafka_connect import KafkaConnectHook
from airflow_mlplatform.links import KafkaConnectorLink
from airflow_mlplatform.triggers.kafka_connect_wait import wait_in_triggerer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_mlplatform.clients.kafka_connect import ConnectorState
    from airflow_mlplatform.connectors.strimzi import StrimziCluster

__all__ = ["KafkaConnectorSensor"]


class KafkaConnectorSensor(BaseSensorOperator):
    """Waits, without a worker, until a connector and all its tasks are in a state. It changes nothing.

    One that has failed, or is not there yet, is waited for too; at the timeout the task fails with its stack trace, or
    is skipped with ``soft_fail``. XCom (return value): ``state``, ``tasks``, ``kind``, ``version``.

    :param name: the connector. Templated.
    :param state: ``running``, ``paused``, ``stopped`` or ``absent``. Templated.
    :param settle: seconds for which the state has to last; not with ``deferrable=False``.
    :param deferrable: wait in the triggerer (default); if false, on a worker, by ``mode`` and ``poke_interval``.
    :param kafka_connect_conn_id: Airflow connection (type kafka_connect).
    :param strimzi: a Connect cluster whose connectors are resources of Strimzi, which is asked instead; only in the
        triggerer, which has it look again.
    :raises ConfigurationError: if it is to wait for Strimzi on a worker.
    """

    template_fields: Sequence[str] = ("name", "state")
    operator_extra_links = (KafkaConnectorLink(),)
    ui_color = "#e3dcf5"

    def __init__(
        self,
        *,
        name: str,
        state: ConnectorState = "running",
        settle: float = 0.0,
        deferrable: bool = True,
        kafka_connect_conn_id: str = KafkaConnectHook.default_conn_name,
        strimzi: StrimziCluster | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if strimzi is not None and not deferrable:
            raise ConfigurationError(
                f"{self.task_id}: what Strimzi tells may be two minutes old, and only the triggerer has it look again; "
                "drop deferrable=False"
            )
        self.name = name
        self.state = state
        self.settle = settle
        self.deferrable = deferrable
        self.kafka_connect_conn_id = kafka_connect_conn_id
        self.strimzi = strimzi

    def execute(self, context: Context) -> Any:
        """Hand the wait to the triggerer, or wait here."""
        with failing_fast():
            wish = Wish.of(self.name, self.state, None)
            if self.strimzi is None:
                hook = KafkaConnectHook(self.kafka_connect_conn_id)
                context["ti"].xcom_push(key=KafkaConnectorLink.key, value=hook.connector_url(wish.name))
            if self.deferrable:
                wait = ConnectorWait(name=wish.name, state=wish.state, settle=self.settle, patient=True)
                wait_in_triggerer(self, wait, self.strimzi or self.kafka_connect_conn_id, self.timeout)
            return super().execute(context)

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002
        """Look once, on a worker."""
        with KafkaConnectHook(self.kafka_connect_conn_id).client() as client:
            try:
                found = client.get_connector(self.name)
            except ServiceUnavailable as error:
                self.log.warning("%s", error)
                return PokeReturnValue(is_done=False)
        status = found.status if found else None
        self.log.info("%s: %s", self.name, status or "there is none")
        done = found is None if self.state == "absent" else fulfilled(self.state, status)
        return PokeReturnValue(done, StatusFacts.of(status).model_dump(mode="json"))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """End the task as the trigger's event says."""
        with failing_fast():
            told = ConnectorEvent.decode(event)
        if told.ending == "mistake":
            raise AirflowFailException(told.message)
        if told.ending != "done":
            raise AirflowSensorTimeout(f"connector {self.name}: {told.message}")
        return told.status.model_dump(mode="json")
