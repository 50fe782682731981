"""Progress as a person likes to see it: a line a task, updated in place; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from airflow_mlplatform.demo.airflow_api import DagRun, TaskState

__all__ = ["Progress"]

SIGNS = {
    "success": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "upstream_failed": ("✗", "red"),
    "running": ("▶", "cyan"),
    "deferred": ("…", "magenta"),
    "awaiting_input": ("?", "magenta"),
    "skipped": ("–", "yellow"),
    "up_for_retry": ("↻", "yellow"),
}
WAITING = ("·", "dim")


class Progress:
    """Shows the tasks of several DAG runs while they run.

    :param console: where to print.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._lines: dict[str, Text] = {}
        self._said: dict[str, str] = {}
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line above the tasks."""
        self._console.print(f"[dim]{self._clock()}[/dim] {text}", highlight=False)

    def show(self, run: DagRun, tasks: list[TaskState]) -> None:
        """Show the tasks of a run as they are now."""
        for task_id in dict.fromkeys(task.task_id for task in tasks):
            states = Counter(task.state for task in tasks if task.task_id == task_id)
            self._line(f"{run.dag_id}.{task_id}", states)
        if self._live:
            self._live.update(Group(*self._lines.values()))

    def _line(self, name: str, states: Counter[str]) -> None:
        state = next((state for state in SIGNS if state in states and state != "success"), None)
        state = state or ("success" if set(states) == {"success"} else "waiting")
        sign, style = SIGNS.get(state, WAITING)
        total = sum(states.values())
        count = f" {states['success']}/{total}" if total > 1 else ""
        self._lines[name] = Text(f"  {sign} {name}{count} {state}", style=style)
        if not self._live and self._said.get(name) != f"{state}{count}" and state != "waiting":
            self._said[name] = f"{state}{count}"
            self.say(f"{sign} {name}{count} {state}")

    def _clock(self) -> str:
        return f"{time.monotonic() - self._start:5.0f}s"
