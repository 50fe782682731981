"""What is waited for, and how a wait ends, as the JSON that goes between workers and triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_mlplatform.clients.kafka_connect_entities import ConnectorState, ConnectorStatus
from airflow_mlplatform.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow_mlplatform.connectors.change import Change

__all__ = ["ConnectorEvent", "ConnectorWait", "StatusFacts", "settle_after"]

SETTLE = 10.0
# A task that starts anew with another config counts as RUNNING, as the one before it, until it runs or has failed.
# JDBC sinks try for 30 s to reach their database.
SETTLE_UPDATED = 45.0


def settle_after(change: Change, seconds: float) -> float:
    """Return for how long, in seconds, a state has to last after a change before it is believed.

    :param seconds: how long the wait may last; half of it is left for all else.
    """
    restarted = change.config is not None and change.former_state != "stopped"
    doubtful = change.kind == "updated" and restarted and (change.state or change.former_state) == "running"
    return min(SETTLE_UPDATED if doubtful else SETTLE, seconds / 2)


class StatusFacts(BaseModel):
    """How a connector does, as what is left in XCom.

    :param state: state of the connector, as Connect writes it; empty if it does not exist.
    :param tasks: states of its tasks, by number.
    :param kind: ``source`` or ``sink``.
    :param version: version of its plugin, where workers tell it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: str = ""
    tasks: tuple[str, ...] = ()
    kind: str = ""
    version: str = ""

    @classmethod
    def of(cls, status: ConnectorStatus | None) -> StatusFacts:
        """Take them from a status."""
        if status is None:
            return cls()
        tasks = tuple(task.state for task in status.tasks)
        return cls(state=status.state, tasks=tasks, kind=status.kind, version=status.version)


class ConnectorEvent(BaseModel):
    """How a wait has ended: ``done``, ``failed``, ``timeout``, ``behind`` (runs, but has not caught up in time), or
    ``mistake`` (no retry).

    :param message: what to tell people; holds no secrets.
    :param status: what was seen last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ending: Literal["done", "failed", "timeout", "behind", "mistake"]
    message: str = ""
    status: StatusFacts = StatusFacts()

    @classmethod
    def decode(cls, payload: object) -> ConnectorEvent:
        """Read an event's payload.

        :raises ConfigurationError: if it is not understood; that is a failure, never a success.
        """
        try:
            return cls.model_validate(payload)
        except ValidationError as error:
            raise ConfigurationError(
                f"the event {payload!r:.200} is not one of KafkaConnectorTrigger ({error.error_count()} problems); "
                "let workers and triggerer run the same version of airflow-mlplatform, then clear the task"
            ) from None


class ConnectorWait(BaseModel):
    """What is waited for.

    :param name: the connector.
    :param state: the state that it and all its tasks have to be in.
    :param settle: seconds for which they have to stay so.
    :param restarts: how often failed tasks are restarted.
    :param patient: failed tasks that no restart mends are waited for too: somebody else may mend them.
    :param caught_up: wait then until it has caught up.
    :param targets: the offsets that a sink has to reach for that; ``None``: a source, which has to end its snapshot.
    :param secret_keys: keys of its config that the plugin declares to be passwords.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    state: ConnectorState
    settle: float = 0.0
    restarts: int = 0
    patient: bool = False
    caught_up: bool = False
    targets: dict[str, dict[str, int]] | None = None
    secret_keys: tuple[str, ...] = ()
