"""What is asked of those who keep connectors: Kafka Connect itself, or an operator on Kubernetes that does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlplatform.clients.kafka_connect_entities import Connector, InitialState, Validation

__all__ = ["Connectors"]


class Connectors(Protocol):
    """The connectors of one Connect cluster.

    Every method may be repeated. Every method raises
    :class:`~airflow_mlplatform.exceptions.ServiceUnavailable` for an outage and
    :class:`~airflow_mlplatform.exceptions.ServiceRefused` for a refusal.
    """

    def get(self, name: str) -> Connector | None:
        """Return a connector; ``None`` if there is none of that name."""

    def kind(self, config: Mapping[str, str]) -> str:
        """Return ``source`` or ``sink``; empty if that is not known."""

    def validate(self, config: Mapping[str, str]) -> Validation:
        """Ask what is wrong with a config, as far as that can be asked."""

    def make(self, name: str, config: Mapping[str, str], state: InitialState) -> None:
        """Make a connector in a state."""

    def update(self, name: str, config: Mapping[str, str] | None, state: InitialState | None) -> None:
        """Set config and state of a connector; ``None`` leaves them as they are."""

    def delete(self, name: str) -> None:
        """Remove a connector; nothing happens if there is none of that name."""

    def restart(self, name: str) -> None:
        """Restart what has failed of a connector."""
