"""Waiting for a condition, not for a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str = "", timeout: float = 60.0) -> T:
    """Return the first true value of the condition; fail the test if there is none."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout:.0f} s in vain {what}".strip()
        time.sleep(0.02)
    return value
