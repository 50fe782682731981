"""Runs tasks about connectors here, their triggers included, as worker and triggerer do in turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.triggers.base import BaseTrigger


class StateStore(dict[str, Any]):
    """Airflow's state store of one task, as far as tasks use it."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self.pop(key, None)


@dataclass
class Task:
    """One task, in all its tries.

    :param store: what its tries remember.
    :param xcoms: what it pushed.
    :param stored: all JSON that Airflow would keep for it.
    """

    store: StateStore = field(default_factory=StateStore)
    xcoms: dict[str, Any] = field(default_factory=dict)
    stored: list[str] = field(default_factory=list)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))

    @property
    def context(self) -> Any:
        return {"ti": self, "task_state_store": self.store}

    def start(self, operator: BaseOperator) -> TaskDeferred | Any:
        """Run it on a worker; return its result, or what it handed to the triggerer."""
        try:
            return operator.execute(self.context)
        except TaskDeferred as deferred:
            self.stored += [json.dumps(deferred.kwargs), json.dumps(deferred.trigger.serialize()[1])]
            return deferred

    def end(self, operator: BaseOperator, deferred: TaskDeferred, event: Any) -> Any:
        """Run the end of it on a worker."""
        self.stored.append(json.dumps(event))
        method = getattr(operator, deferred.method_name)
        return method(self.context, event=json.loads(json.dumps(event)), **json.loads(json.dumps(deferred.kwargs)))

    def run(self, operator: BaseOperator) -> Any:
        """Run it from its start to its end; its errors are raised."""
        started = self.start(operator)
        if not isinstance(started, TaskDeferred):
            return started
        return self.end(operator, started, asyncio.run(fired(started.trigger)))

    @property
    def everything(self) -> str:
        """All that Airflow kept of it."""
        return "\n".join([*self.stored, json.dumps(self.xcoms), json.dumps(self.store)])


async def fired(trigger: BaseTrigger) -> Any:
    """Let a trigger run, as serialized, until it fires; return the payload."""
    path, arguments = trigger.serialize()
    again = type(trigger)(**json.loads(json.dumps(arguments)))
    assert path.endswith(type(trigger).__name__)
    async for event in again.run():
        return event.payload
    raise AssertionError("the trigger ended without an event")


def run_all(operators: Sequence[BaseOperator]) -> list[Any]:
    """Run many tasks, with all their triggers in one process at once, as a triggerer has them."""
    tasks = [Task() for _ in operators]
    started = [task.start(operator) for task, operator in zip(tasks, operators, strict=True)]

    async def wait() -> list[Any]:
        waits = (fired(one.trigger) if isinstance(one, TaskDeferred) else asyncio.sleep(0) for one in started)
        return await asyncio.gather(*waits)

    events = asyncio.run(wait())
    return [
        task.end(operator, one, event) if isinstance(one, TaskDeferred) else one
        for task, operator, one, event in zip(tasks, operators, started, events, strict=True)
    ]


@contextmanager
def connection(name: str, **content: Any) -> Iterator[str]:
    """An Airflow connection while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(content))
        yield name
