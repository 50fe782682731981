"""What an Airflow connection of type ``kafka`` says, as configuration of a Kafka client.

Its extra is the client's configuration in librdkafka's words, as Airflow's Kafka provider has it too:
``{"bootstrap.servers": "kafka:9092", "security.protocol": "SASL_SSL", …}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_mlplatform.exceptions import ConfigurationError

__all__ = ["client_config"]

# Of consumers only; who reads has a group of its own.
OF_CONSUMERS = frozenset({"group.id", "auto.offset.reset", "enable.auto.commit"})


def client_config(extra: Mapping[str, Any], conn_id: str) -> dict[str, str]:
    """Return the configuration that every client needs: addresses, security, time-outs.

    :param extra: the connection's extra.
    :param conn_id: for messages.
    :raises ConfigurationError: if it names no brokers, or holds what is no plain value.
    """
    if not extra.get("bootstrap.servers"):
        raise ConfigurationError(
            f"connection {conn_id!r} names no brokers; set its extra to the client's configuration: "
            '{"bootstrap.servers": "kafka:9092"}'
        )
    nested = sorted(name for name, value in extra.items() if not isinstance(value, (str, int, float)))
    if nested:
        raise ConfigurationError(
            f"connection {conn_id!r}: {nested[0]} in its extra is no plain value; write text, a number, true or false"
        )
    return {name: _text(value) for name, value in extra.items() if name not in OF_CONSUMERS}


def _text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
