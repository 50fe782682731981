"""An Airflow connection of type ``kafka`` becomes the configuration of a Kafka client."""

from __future__ import annotations

from airflow_mlplatform.hooks.connection import ConnectionHook
from airflow_mlplatform.hooks.login import login_from
from airflow_mlplatform.steps.kafka.config import client_config

__all__ = ["KafkaHook"]


class KafkaHook(ConnectionHook):
    """Kafka's brokers. The connection type is that of Airflow's Kafka provider, which need not be installed.

    :param kafka_conn_id: connection id.
    """

    conn_name_attr = "kafka_conn_id"
    default_conn_name = "kafka_default"
    conn_type = "kafka"
    advice = 'whose extra is the client\'s configuration: {"bootstrap.servers": "kafka:9092"}'

    def __init__(self, kafka_conn_id: str = default_conn_name) -> None:
        super().__init__(kafka_conn_id)
        self.kafka_conn_id = kafka_conn_id

    def get_conn(self) -> dict[str, str]:
        """Return the client's configuration, in librdkafka's words.

        :raises ConfigurationError: if there is no such connection, or it names no brokers.
        """
        return client_config(login_from(self.kafka_conn_id, self.connection))

    async def aget_conn(self) -> dict[str, str]:
        """Return the same, with the connection looked up without blocking the event loop."""
        return client_config(login_from(self.kafka_conn_id, await self.aconnection()))
