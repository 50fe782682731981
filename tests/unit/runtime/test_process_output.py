"""Which line of a process's output is told as the reason of its failure."""

from __future__ import annotations

import pytest

from airflow_mlplatform.runtime.process_output import LONGEST_REASON, Tail

NOISE = [
    "🏃 View run wise-owl-1 at: http://mlflow/#/experiments/1/runs/2",
    "🧪 View experiment at: http://mlflow/#/experiments/1",
    "2026/01/01 00:00:00 ERROR mlflow.cli: === Run (ID '0123abc') failed ===",
]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["Traceback (most recent call last):", "  File …", "ValueError: bad luck", *NOISE], "ValueError: bad luck"),
        (["Traceback (most recent call last):", "  File …", "Unlucky: own class", "bye", *NOISE], "Unlucky: own class"),
        (["ValueError: caught", "Traceback (most recent call last):", " …", "KeyError: 'x'"], "KeyError: 'x'"),
        (
            ["usage: train.py", "train.py: error: unrecognized arguments: --a"],
            "train.py: error: unrecognized arguments: --a",
        ),
        (["bash: line 1: nope: command not found", *NOISE], "bash: line 1: nope: command not found"),
        (
            ["2026 ERROR mlflow.cli: === No value given for 'x' ==="],
            "2026 ERROR mlflow.cli: === No value given for 'x' ===",
        ),
        (["working", "giving up", *NOISE, ""], "giving up"),
        ([], "it printed nothing"),
    ],
)
def test_reason(lines: list[str], reason: str) -> None:
    tail = Tail()
    for line in lines:
        tail.add(line)
    assert tail.reason == reason


def test_a_flood_is_bounded() -> None:
    tail = Tail()
    for number in range(2_000):
        tail.add(f"{number} " + "x" * 10_000)
    assert len(tail.reason) == LONGEST_REASON
    assert len(str(tail).splitlines()) == 15
