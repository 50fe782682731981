"""Connectors kept by Kafka Connect itself, over its REST API."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlplatform.clients.kafka_connect import KafkaConnectClient
    from airflow_mlplatform.clients.kafka_connect_entities import InitialState, Plugin

__all__ = ["RestConnectors"]


class RestConnectors:
    """Implements :class:`~airflow_mlplatform.connectors.backend.Connectors`.

    :param client: an open client.
    """

    def __init__(self, client: KafkaConnectClient) -> None:
        self._client = client
        self.get = client.get_connector
        self.validate = client.validate
        self.delete = client.delete
        self.restart = client.restart
        self.get_offsets = client.get_offsets
        self.set_offsets = client.set_offsets
        self.reset_offsets = client.reset_offsets

    def plugin(self, config: Mapping[str, str]) -> Plugin | None:
        """Return the plugin of a config; ``None`` if the workers do not have it."""
        wanted = config.get("connector.class", "")
        return next((plugin for plugin in self._client.plugins() if plugin.answers_to(wanted)), None)

    def make(self, name: str, config: Mapping[str, str], state: InitialState) -> None:
        """Make a connector in a state."""
        if state == "running":
            self._client.put_config(name, config)
        elif not self._client.create(name, config, state):
            # A former try made it, or somebody else did meanwhile.
            self.update(name, config, state)

    def update(self, name: str, config: Mapping[str, str] | None, state: InitialState | None) -> None:
        """Set config and state, in the order in which no config runs that shall not."""
        if state in ("paused", "stopped"):
            self._client.set_state(name, state)
        if config is not None:
            self._client.put_config(name, config)
        if state == "running":
            self._client.set_state(name, state)
