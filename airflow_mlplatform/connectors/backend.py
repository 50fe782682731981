"""What is asked of those who keep connectors: Kafka Connect itself, or an operator on Kubernetes that does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_mlplatform.clients.kafka_connect_entities import Connector, InitialState, Plugin, Validation
    from airflow_mlplatform.clients.kafka_connect_operations import Offset

__all__ = ["Connectors"]


class Connectors(Protocol):
    """The connectors of one Connect cluster.

    Every method may be repeated. Every method raises
    :class:`~airflow_mlplatform.exceptions.ServiceUnavailable` for an outage and
    :class:`~airflow_mlplatform.exceptions.ServiceRefused` for a refusal.
    """

    def get(self, name: str) -> Connector | None:
        """Return a connector; ``None`` if there is none of that name."""

    def plugin(self, config: Mapping[str, str]) -> Plugin | None:
        """Return the plugin of a config; ``None`` if that is not known."""

    def validate(self, config: Mapping[str, str]) -> Validation:
        """Ask what is wrong with a config, as far as that can be asked."""

    def make(self, name: str, config: Mapping[str, str], state: InitialState) -> None:
        """Make a connector in a state."""

    def update(self, name: str, config: Mapping[str, str] | None, state: InitialState | None) -> None:
        """Set config and state of a connector; ``None`` leaves them as they are."""

    def delete(self, name: str) -> None:
        """Remove a connector; nothing happens if there is none of that name."""

    def restart(self, name: str, only_failed: bool = True) -> None:
        """Restart a connector with its tasks."""

    def get_offsets(self, name: str) -> list[Offset]:
        """Return how far a connector is, in the words of Kafka Connect's REST API."""

    def set_offsets(self, name: str, offsets: Sequence[Offset]) -> None:
        """Change how far a stopped connector is; partitions that are not named keep theirs."""

    def reset_offsets(self, name: str) -> None:
        """Let a stopped connector begin anew."""
