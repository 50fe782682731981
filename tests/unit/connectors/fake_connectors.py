"""Connectors in memory, as Kafka Connect keeps them: it takes a config, or refuses it with its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_mlplatform.clients.kafka_connect_entities import (
    Connector,
    ConnectorStatus,
    InitialState,
    Plugin,
    Problem,
    TaskStatus,
    Validation,
)
from airflow_mlplatform.exceptions import ServiceRefused, ServiceUnavailable


@dataclass
class FakeConnectors:
    """Implements `airflow_mlplatform.connectors.backend.Connectors`.

    :param refuses: a value that no config may have; the refusal quotes the whole config.
    """

    configs: dict[str, dict[str, str]] = field(default_factory=dict)
    states: dict[str, InitialState] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    secrets: frozenset[str] = frozenset()
    refuses: str = "refused"
    away: bool = False
    did: list[str] = field(default_factory=list)

    def get(self, name: str) -> Connector | None:
        if self.away:
            raise ServiceUnavailable("Kafka Connect does not answer")
        if name not in self.configs:
            return None
        state = self.states[name].upper()
        return Connector(name, dict(self.configs[name]), ConnectorStatus(state, (TaskStatus(0, state),)))

    def plugin(self, config: Mapping[str, str]) -> Plugin | None:
        return Plugin(config["connector.class"], "source", "1")

    def validate(self, config: Mapping[str, str]) -> Validation:
        return Validation(self.problems, self.secrets)

    def make(self, name: str, config: Mapping[str, str], state: InitialState) -> None:
        self._take(config)
        self.did.append(f"make {state}")
        self.configs[name], self.states[name] = dict(config), state

    def update(self, name: str, config: Mapping[str, str] | None, state: InitialState | None) -> None:
        if config is not None:
            self._take(config)
            self.configs[name] = dict(config)
        self.states[name] = state or self.states[name]
        self.did.append(" ".join(filter(None, ("update", config is not None and "config", state))))

    def delete(self, name: str) -> None:
        self.did.append("delete")
        self.configs.pop(name, None)

    def restart(self, name: str, only_failed: bool = True) -> None:
        self.did.append("restart")

    def get_offsets(self, name: str) -> list[dict[str, Any]]:
        raise NotImplementedError

    def set_offsets(self, name: str, offsets: Sequence[Mapping[str, Any]]) -> None:
        raise NotImplementedError

    def reset_offsets(self, name: str) -> None:
        raise NotImplementedError

    def _take(self, config: Mapping[str, str]) -> None:
        if self.refuses in config.values():
            raise ServiceRefused(f"refused: {dict(config)}")
