"""Whether an alert starts a run now: pure, from the runs that alerts started before.

Ids count up. Whoever decides from the same runs comes to the same id, and the database takes an id once: so, of any
number of API servers that decide at the same moment, one makes the run. No lock is needed, on any database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from airflow_mlplatform.alerts.listener import Listener
from airflow_mlplatform.specs.base import show_duration

__all__ = ["Before", "NotNow", "Start", "decide"]


@dataclass(frozen=True)
class Before:
    """A run that an alert started.

    :param run_id: its id.
    :param state: its state.
    :param ended: when it ended; ``None`` while it goes on.
    """

    run_id: str
    state: str
    ended: datetime | None


@dataclass(frozen=True)
class Start:
    """A run is to be started, with this id."""

    run_id: str


@dataclass(frozen=True)
class NotNow:
    """No run is to be started, and why."""

    why: str


def decide(listener: Listener, before: Sequence[Before], now: datetime) -> Start | NotNow:
    """Decide whether an alert that a listener has heard starts a run.

    :param before: runs whose ids begin with the listener's ``sequence``.
    """
    for run in before:
        if run.ended is None:
            return NotNow(f"{run.run_id} is {run.state}")
    ended = [(run.ended, run.run_id) for run in before if run.ended]
    if ended:
        last, run_id = max(ended)
        free = last + listener.cooldown
        if now < free:
            cooldown = show_duration(listener.cooldown)
            return NotNow(f"{run_id} ended at {last:%F %T} UTC, and cooldown: {cooldown} lasts until {free:%F %T} UTC")
    return Start(f"{listener.sequence}{1 + max((_number(run, listener) for run in before), default=0)}")


def _number(run: Before, listener: Listener) -> int:
    number = run.run_id.removeprefix(listener.sequence)
    return int(number) if number.isdecimal() else 0
