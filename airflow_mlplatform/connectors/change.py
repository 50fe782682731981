"""Brings a connector into the wished state, sending only what differs, and back again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, cast

from airflow_mlplatform.clients.kafka_connect_entities import Connector, ConnectorState, InitialState
from airflow_mlplatform.connectors.config import (
    Difference,
    complete,
    differences,
    is_masked,
    masked,
    scrubbed,
    secret_values,
)
from airflow_mlplatform.exceptions import ConfigurationError, ServiceError, ServiceRefused, ServiceUnavailable

if TYPE_CHECKING:
    from airflow_mlplatform.connectors.backend import Connectors
    from airflow_mlplatform.connectors.wish import Wish

__all__ = ["Change", "PutBack", "is_weather", "perform", "plan", "put_back", "state_of", "validate"]

Kind = Literal["nothing", "created", "updated", "removed"]
# A plugin that looks at its database while it validates blames the config for the weather.
_WEATHER = re.compile(r"refused|timed? ?out|unreachable|unable to connect|could not connect|connection .*(reset|fail)")


@dataclass(frozen=True)
class Change:
    """What a wish asks for, and what has to be put back if it does not work out.

    :param kind: what happens to the connector.
    :param keys: what changes in its config.
    :param config: the config to send, secrets included; ``None`` if it does not change.
    :param state: the state to set; ``None`` if it does not change.
    :param former_config: the config before, secrets included; ``None`` if there was none, or it does not change.
    :param former_state: the state before.
    :param declared: keys that the plugin declares to be passwords.
    """

    kind: Kind = "nothing"
    keys: Mapping[str, Difference] = field(default_factory=dict, repr=False)
    config: Mapping[str, str] | None = field(default=None, repr=False)
    state: InitialState | None = None
    former_config: Mapping[str, str] | None = field(default=None, repr=False)
    former_state: ConnectorState = "absent"
    declared: frozenset[str] = frozenset()

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to do."""
        return self.kind == "nothing"

    def continued(self, by: Change) -> Change:
        """Return this change of a try that died, as the next one goes on with it: perhaps nothing had been sent yet."""
        return replace(self, config=by.config, declared=self.declared | by.declared) if by.config else self

    @property
    def secrets(self) -> frozenset[str]:
        """Texts that must not be shown."""
        configs = (self.config or {}, self.former_config or {})
        return frozenset().union(*(secret_values(config, self.declared) for config in configs))

    def shown(self, config: Mapping[str, str]) -> dict[str, str]:
        """Return a config, or a part of one, with the secrets of this change masked."""
        return masked(config, self.declared, self.secrets)

    def told(self) -> dict[str, dict[str, str | None]]:
        """Return what changes in the config, as JSON that may be shown: ``from`` and ``to`` by key."""
        former = self.shown({key: one.former for key, one in self.keys.items() if one.former is not None})
        wished = self.shown({key: one.wished for key, one in self.keys.items() if one.wished is not None})
        return {key: {"from": former.get(key), "to": wished.get(key)} for key in self.keys}


def plan(wish: Wish, present: Connector | None) -> Change:
    """Return what has to be done about a wish.

    :raises ConfigurationError: if there is no connector and the wish has no config to make one of.
    """
    if present is None:
        return _plan_new(wish)
    former = state_of(present)
    if wish.state == "absent":
        return Change("removed", former_state=former)
    keys = differences(wish.config, present.config) if wish.config is not None else {}
    config = complete(wish.config or {}, present.config) if keys else None
    state = wish.state if former != wish.state or not _reported(present) else None
    if not keys and state is None:
        return Change(former_state=former)
    return Change("updated", keys, config, state, present.config if keys else None, former)


def _plan_new(wish: Wish) -> Change:
    if wish.state == "absent":
        return Change()
    if wish.config is None:
        raise ConfigurationError(
            f"there is no connector {wish.name!r} that could be {wish.state}; correct its name, or give its config"
        )
    return Change("created", differences(wish.config, {}), complete(wish.config, {}), wish.state)


def _reported(connector: Connector) -> bool:
    """Whether the workers say in which state they want it; a connector that moves between them hides it."""
    if connector.wished:
        return True
    return connector.status is not None and connector.status.state not in ("UNASSIGNED", "RESTARTING")


def state_of(connector: Connector) -> InitialState:
    """Return the state that a connector is meant to be in, as far as its status tells."""
    if connector.wished:
        return connector.wished
    told = connector.status.state.lower() if connector.status else ""
    return cast("InitialState", told) if told in ("paused", "stopped") else "running"


def validate(connectors: Connectors, name: str, change: Change) -> Change:
    """Let the plugin judge the config, if there is one to send; return the change, now knowing what is secret in it.

    :raises ConfigurationError: with each problem and its field; or if the workers do not have the plugin.
    :raises ServiceUnavailable: if all that is wrong is something the plugin could not reach.
    """
    if change.config is None:
        return change
    with _without_secrets(change):
        validation = connectors.validate(change.config)
    judged = replace(change, declared=validation.secrets)
    if not validation.problems:
        return judged
    told = "\n".join(f"- {problem.field}: {problem.message}" for problem in validation.problems)
    told = scrubbed(told, judged.secrets)
    if all(is_weather(problem.message) for problem in validation.problems):
        raise ServiceUnavailable(
            f"connector {name}: the plugin cannot reach what its config names, so nothing was changed:\n{told}\n"
            "See that it runs and that host and port are right"
        )
    raise ConfigurationError(
        f"connector {name}: the worker does not take the config, so nothing was changed:\n{told}\nCorrect these keys"
    )


def is_weather(message: str) -> bool:
    """Whether a plugin's complaint about a config is about something that it could not reach."""
    return bool(_WEATHER.search(message.lower()))


def perform(connectors: Connectors, name: str, change: Change) -> None:
    """Do what was planned; doing it again does no harm.

    :raises ServiceRefused: if a worker does not take the config.
    """
    with _without_secrets(change):
        if change.kind == "removed":
            connectors.delete(name)
        elif change.kind == "created":
            assert change.config is not None
            connectors.make(name, change.config, change.state or "running")
        elif change.kind == "updated":
            connectors.update(name, change.config, change.state)


@dataclass(frozen=True)
class PutBack:
    """What became of a change that did not work out.

    :param done: whether nothing is left to be done.
    :param message: a sentence about it.
    """

    done: bool
    message: str


def put_back(connectors: Connectors, name: str, change: Change) -> PutBack:
    """Undo a change that did not work out. What somebody else changed meanwhile is left alone."""
    try:
        with _without_secrets(change):
            return PutBack(True, _put_back(connectors, name, change))
    except (ServiceError, ConfigurationError) as error:
        return PutBack(False, f"What was there before could not be put back: {error}")


def _put_back(connectors: Connectors, name: str, change: Change) -> str:
    if change.kind in ("nothing", "removed"):
        return "Nothing had been changed, so nothing was put back."
    present = connectors.get(name)
    if present is None:
        return "It is gone, so nothing was put back."
    if change.config is not None and differences(change.config, present.config):
        return "Its config is not what was sent, so it stays as it is."
    if change.kind == "created":
        connectors.delete(name)
        return "It was new and has been removed."
    return _restore(connectors, name, change)


def _restore(connectors: Connectors, name: str, change: Change) -> str:
    former, lost = _former(change)
    if change.state and change.former_state == "paused":
        # Tasks of a paused connector keep the config that failed; those of a stopped one are gone.
        connectors.update(name, None, "stopped")
    connectors.update(name, former, cast("InitialState", change.former_state) if change.state else None)
    if change.former_state == "running":
        # Tasks whose own config did not change are not started again by a new config.
        connectors.restart(name)
    done = "Its former config" if former is not None else f"Its former state ({change.former_state})"
    unknown = f" The former {', '.join(lost)} is not known any more and stays as it was sent." if lost else ""
    return f"{done} has been put back.{unknown}"


def _former(change: Change) -> tuple[dict[str, str] | None, list[str]]:
    """Return the config to put back, with what nobody can know any more taken from the one sent."""
    if change.former_config is None:
        return None, []
    former = dict(change.former_config)
    lost = [key for key, value in former.items() if is_masked(value)]
    sent = change.config or {}
    return {key: sent.get(key, value) if key in lost else value for key, value in former.items()}, lost


@contextmanager
def _without_secrets(change: Change) -> Iterator[None]:
    """Take secrets out of what Connect says: it likes to quote configs."""
    try:
        yield
    except (ServiceRefused, ServiceUnavailable, ConfigurationError) as error:
        clean = scrubbed(str(error), change.secrets)
        if clean == str(error):
            raise
        raise type(error)(clean) from None
