"""The end of what a process printed, and the line in it that says why it failed."""

from __future__ import annotations

import re
from collections import deque

__all__ = ["Tail"]

KEPT_LINES = 100
SHOWN_LINES = 15
LONGEST_REASON = 1000
# MLflow's own last words repeat that the run failed, not why.
NOISE = re.compile(r"=== Run \(ID '\w+'\) (failed|succeeded) ===|View (run|experiment)\b.*\bat: |^\s*$")
TRACE = "Traceback (most recent call last):"
# A Python error, the complaint of an argument parser or a shell, or MLflow's.
ERROR = re.compile(r"^([\w]+\.)*\w*(Error|Exception)\b|^[\w./-]+: (error|line \d+): |^.* ERROR mlflow\S*: === ")


class Tail:
    """Keeps the last lines; ``str`` gives those worth showing."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    def add(self, line: str) -> None:
        """Take the next line."""
        if not NOISE.search(line):
            self._lines.append(line)

    @property
    def reason(self) -> str:
        """The last line that looks like an error; else the last line."""
        found, in_trace = "", False
        for line in self._lines:
            if line.startswith(TRACE):
                in_trace = True
            elif ERROR.match(line) or (in_trace and not line.startswith(" ")):
                found, in_trace = line, False
        last = found or (self._lines[-1] if self._lines else "it printed nothing")
        return last.strip()[:LONGEST_REASON]

    def __str__(self) -> str:
        return "\n".join(list(self._lines)[-SHOWN_LINES:])
