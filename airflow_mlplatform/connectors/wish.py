"""What is wished of a connector."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from airflow_mlplatform.clients.kafka_connect_entities import ConnectorState, ConnectorStatus
from airflow_mlplatform.connectors.config import as_text, masked
from airflow_mlplatform.exceptions import ConfigurationError

__all__ = ["Wish", "fulfilled"]


@dataclass(frozen=True)
class Wish:
    """A connector as it shall be.

    :param name: its name.
    :param state: the state.
    :param config: its config as text; ``None`` to leave the config as it is. An absent connector has none.
    """

    name: str
    state: ConnectorState
    config: Mapping[str, str] | None = None

    @classmethod
    def of(cls, name: str, state: str, config: Mapping[str, Any] | None) -> Wish:
        """Check what a DAG says.

        :raises ConfigurationError: for a name, state or config that cannot be.
        """
        if not name.strip() or "/" in name:
            raise ConfigurationError(f"{name!r} cannot name a connector: it is empty or holds a slash; rename it")
        if state not in get_args(ConnectorState):
            raise ConfigurationError(
                f"connector {name}: state is {state!r}; write {', '.join(get_args(ConnectorState))}"
            )
        kept = None if state == "absent" or config is None else _checked(name, config)
        return cls(name, cast("ConnectorState", state), kept)

    def fingerprint(self) -> str:
        """Return a short text that changes with the wish; it tells nothing about secrets."""
        shown = [self.name, self.state, masked(self.config) if self.config is not None else None]
        return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:16]


def _checked(name: str, config: Mapping[str, Any]) -> dict[str, str]:
    if not isinstance(config, Mapping):
        raise ConfigurationError(f"connector {name}: its config is {type(config).__name__}; give a dictionary")
    text = as_text(config)
    if not text.get("connector.class"):
        raise ConfigurationError(f"connector {name}: its config lacks connector.class; write the plugin's class")
    if text.setdefault("name", name) != name:
        raise ConfigurationError(
            f"connector {name}: its config says name = {text['name']!r}; drop it, the connector has its name already"
        )
    return text


def fulfilled(state: ConnectorState, status: ConnectorStatus | None) -> bool:
    """Whether a connector that exists is in a state, with all its tasks.

    :param status: how it does; ``None`` if nobody has reported.
    """
    if status is None or state == "absent":
        return False
    wanted = state.upper()
    if status.state != wanted:
        return False
    if state == "stopped":
        return not status.tasks
    return bool(status.tasks or state == "paused") and all(task.state == wanted for task in status.tasks)
