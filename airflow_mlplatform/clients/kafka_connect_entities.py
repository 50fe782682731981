"""What Kafka Connect's REST API speaks of, as frozen objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "ABSENT",
    "Connector",
    "ConnectorState",
    "ConnectorStatus",
    "InitialState",
    "Plugin",
    "Problem",
    "TaskStatus",
    "Validation",
]

ConnectorState = Literal["running", "paused", "stopped", "absent"]
InitialState = Literal["running", "paused", "stopped"]
ABSENT = "absent"


@dataclass(frozen=True)
class Plugin:
    """A connector class that the workers have.

    :param name: the Java class.
    :param kind: ``source`` or ``sink``.
    :param version: its version; empty if it tells none.
    """

    name: str
    kind: str
    version: str

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Plugin:
        """Read the JSON of ``/connector-plugins``."""
        return cls(str(data["class"]), str(data.get("type", "")), str(data.get("version") or ""))

    def answers_to(self, name: str) -> bool:
        """Whether ``connector.class`` may call it so: its class, the class without package, that without Connector."""
        simple = self.name.rpartition(".")[2]
        return name in (self.name, simple, simple.removesuffix("Connector"))

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


@dataclass(frozen=True)
class Problem:
    """What a worker does not like about a config.

    :param field: the key; empty if it is none of them.
    :param message: the worker's words.
    """

    field: str
    message: str


@dataclass(frozen=True)
class Validation:
    """A worker's opinion of a config.

    :param problems: in the order of the plugin's own list; none if the config is fine.
    :param secrets: keys that the plugin declares to be passwords.
    """

    problems: tuple[Problem, ...]
    secrets: frozenset[str]

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Validation:
        """Read the answer of ``/connector-plugins/…/config/validate``."""
        entries = [(item.get("definition") or {}, item["value"]) for item in data.get("configs", ())]
        problems = [
            Problem(str(value["name"]), str(message)) for _, value in entries for message in value.get("errors") or ()
        ]
        secrets = frozenset(str(known["name"]) for known, _ in entries if known.get("type") == "PASSWORD")
        return cls(tuple(problems), secrets)


@dataclass(frozen=True)
class TaskStatus:
    """One task of a connector.

    :param number: its number.
    :param state: ``RUNNING``, ``PAUSED``, ``FAILED``, ``UNASSIGNED`` or ``RESTARTING``.
    :param worker: who runs it.
    :param trace: Java stack trace of a failed one.
    """

    number: int
    state: str
    worker: str = ""
    trace: str = ""


@dataclass(frozen=True)
class ConnectorStatus:
    """How a connector does.

    :param state: ``RUNNING``, ``PAUSED``, ``STOPPED``, ``FAILED``, ``UNASSIGNED`` or ``RESTARTING``; ``REFUSED`` if an
        operator that keeps it could not hand it on, and will not.
    :param tasks: its tasks, those that have reported.
    :param worker: who runs the connector itself.
    :param trace: Java stack trace of a failed one.
    :param kind: ``source``, ``sink`` or ``unknown``.
    :param version: version of the plugin; empty from workers that do not tell it.
    """

    state: str
    tasks: tuple[TaskStatus, ...] = ()
    worker: str = ""
    trace: str = ""
    kind: str = "unknown"
    version: str = ""

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> ConnectorStatus:
        """Read the JSON of a ``status``."""
        connector = data["connector"]
        tasks = [
            TaskStatus(
                int(task["id"]), str(task["state"]), str(task.get("worker_id", "")), str(task.get("trace") or "")
            )
            for task in data.get("tasks", ())
        ]
        return cls(
            state=str(connector["state"]),
            tasks=tuple(sorted(tasks, key=lambda task: task.number)),
            worker=str(connector.get("worker_id", "")),
            trace=str(connector.get("trace") or ""),
            kind=str(data.get("type") or "unknown"),
            version=str(connector.get("version") or ""),
        )

    @property
    def traces(self) -> tuple[str, ...]:
        """The stack traces of the failed connector and its failed tasks; one that says nothing is left out."""
        return tuple(trace for trace in (self.trace, *(task.trace for task in self.tasks)) if trace)

    @property
    def failed(self) -> bool:
        """Whether the connector or one of its tasks has failed."""
        return "FAILED" in (self.state, *(task.state for task in self.tasks))

    def __str__(self) -> str:
        tasks = ", ".join(f"{task.number} {task.state}" for task in self.tasks) or "none"
        return f"connector {self.state}, tasks: {tasks}"


@dataclass(frozen=True)
class Connector:
    """A connector as the workers know it.

    :param name: its name.
    :param config: its config, as text.
    :param status: how it does; ``None`` while nobody has reported.
    :param wished: the state it is meant to be in, where that is told; else it is read from the status.
    """

    name: str
    config: Mapping[str, str]
    status: ConnectorStatus | None
    wished: InitialState | None = None

    @classmethod
    def parse(cls, name: str, data: Mapping[str, Any]) -> Connector:
        """Read an entry of ``/connectors?expand=status&expand=info``."""
        config = (data.get("info") or {}).get("config") or {}
        status = data.get("status")
        return cls(name, config, ConnectorStatus.parse(status) if status else None)
