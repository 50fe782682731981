"""The answer to a notification: what became of each alert."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Account", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What an alert was to one DAG that listens to it.

    :param alert: name of the alert.
    :param dag_id: the DAG.
    :param run_id: the run that was started; empty if none was.
    :param why: why none was.
    """

    alert: str
    dag_id: str
    run_id: str = ""
    why: str = ""


@dataclass
class Account:
    """What became of a notification.

    :param firing: number of alerts in it that fire.
    :param outcomes: one a DAG and action that they are about.
    :param unheard: names of those that nobody listens to, or only with other labels.
    """

    firing: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    unheard: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{one.alert} → {one.dag_id}: {one.run_id or f'no run, {one.why}'}" for one in self.outcomes]
        lines += [f"{name!r}: nobody listens" for name in self.unheard]
        return "; ".join(lines) or "nothing fires"
