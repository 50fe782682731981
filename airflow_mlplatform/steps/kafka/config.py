"""From an Airflow connection to the configuration of a Kafka client."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlplatform.specs.kafka import KafkaSource
    from airflow_mlplatform.steps.login import Login

__all__ = ["client_config", "consumer_config", "demand_installed"]

# Airflow's own Kafka provider takes names of Python functions under these.
CALLBACKS = frozenset({"error_cb", "log_cb", "oauth_cb", "on_commit", "stats_cb", "throttle_cb"})
# Who reads has a group and a position of its own.
OF_CONSUMERS = frozenset({"group.id", "auto.offset.reset", "enable.auto.commit"})
# What the connection says of these wins. Measured: docs/decisions/0008-kafka-client.md.
TUNING = {
    "fetch.queue.backoff.ms": 5,
    # What is fetched is compressed, and may be a hundred times as large in memory.
    "fetch.max.bytes": 2**20,
    "max.partition.fetch.bytes": 2**18,
    "queued.max.messages.kbytes": 8_192,
    "socket.keepalive.enable": True,
}
OURS = {
    "auto.offset.reset": "error",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
}


def demand_installed(source: KafkaSource) -> None:
    """Refuse a source whose packages are missing where the task runs.

    :raises ConfigurationError: naming what to install.
    """
    packages = {"confluent_kafka": "confluent-kafka", **({"fastavro": "fastavro"} if source.format == "avro" else {})}
    missing = [package for module, package in packages.items() if find_spec(module) is None]
    if missing:
        raise ConfigurationError(
            f"source kafka: {missing[0]} is not installed where this task runs; "
            "pip install 'airflow-mlplatform[etl,kafka]' there (on Kubernetes: in the image of defaults)"
        )


def client_config(login: Login) -> dict[str, str]:
    """Return what every client needs to reach the brokers: the extra of a connection of type kafka.

    User and password of the connection are those of SASL, if the extra names none.

    :raises ConfigurationError: if it is of another type, names no brokers, or holds what is no plain value.
    """
    if login.kind != "kafka":
        raise ConfigurationError(
            f"connection {login.id!r} is of type {login.kind!r}; one of type kafka is needed, whose extra is the "
            'configuration of the client: {"bootstrap.servers": "host:9092"}'
        )
    extra = {name: value for name, value in login.extra.items() if name not in CALLBACKS | OF_CONSUMERS}
    if not extra.get("bootstrap.servers"):
        raise ConfigurationError(
            f"connection {login.id!r} names no brokers; set its extra to the client's configuration: "
            '{"bootstrap.servers": "host:9092"}'
        )
    nested = sorted(name for name, value in extra.items() if not isinstance(value, (str, int, float)))
    if nested:
        raise ConfigurationError(
            f"connection {login.id!r}: {nested[0]} in its extra is no plain value; write text, a number, true or false"
        )
    secrets = {"sasl.username": login.user, "sasl.password": login.password}
    config = {name: value for name, value in secrets.items() if value} | extra
    return {name: _text(value) for name, value in config.items()}


def _text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def consumer_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a consumer that reads committed records and keeps nothing in Kafka."""
    # The client wants a group, although it joins none where partitions are assigned by hand.
    return {"group.id": "mlplatform", **TUNING, **config, **OURS}
