"""An Airflow connection of type ``kafka`` becomes the configuration of a Kafka client."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlplatform.clients.kafka_config import client_config
from airflow_mlplatform.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["KafkaHook"]


class KafkaHook(BaseHook):
    """Kafka's brokers. The connection type is that of Airflow's Kafka provider, which need not be installed.

    :param kafka_conn_id: connection id.
    """

    conn_name_attr = "kafka_conn_id"
    default_conn_name = "kafka_default"

    def __init__(self, kafka_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.kafka_conn_id = kafka_conn_id

    def get_conn(self) -> dict[str, str]:
        """Return the client's configuration, in librdkafka's words.

        :raises ConfigurationError: if there is no such connection, or it names no brokers.
        """
        with self._missing_named():
            connection = self.get_connection(self.kafka_conn_id)
        return client_config(connection.extra_dejson, self.kafka_conn_id)

    async def aget_conn(self) -> dict[str, str]:
        """Return the same, with the connection looked up without blocking the event loop."""
        with self._missing_named():
            connection = await self.aget_connection(self.kafka_conn_id)
        return client_config(connection.extra_dejson, self.kafka_conn_id)

    @contextmanager
    def _missing_named(self) -> Iterator[None]:
        try:
            yield
        except AirflowNotFoundException as error:
            raise ConfigurationError(
                f"there is no Airflow connection {self.kafka_conn_id!r}; add one of type kafka (Admin → Connections) "
                'whose extra is the client\'s configuration: {"bootstrap.servers": "kafka:9092"}'
            ) from error
