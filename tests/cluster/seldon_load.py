"""Requests at a steady rate, and what was answered."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["INPUT", "Load", "load"]

INPUT: dict[str, Any] = {"inputs": [{"name": "alcohol", "shape": [1], "datatype": "FP64", "data": [14.2]}]}
SENDERS = 16


class Load:
    """What was answered so far.

    :ivar first: when each model answered first, by the monotonic clock.
    :ivar problems: when and why a request was not answered well.
    """

    def __init__(self) -> None:
        self._answers: list[tuple[int, str]] = []
        self.first: dict[str, float] = {}
        self.problems: list[str] = []

    @property
    def total(self) -> int:
        """How many requests were answered."""
        return len(self._answers)

    def codes(self) -> Counter[int]:
        """Answers by HTTP status; 0 is none at all."""
        return Counter(code for code, _ in self._answers)

    def seen(self, since: int = 0) -> Counter[str]:
        """Good answers by the model that gave them.

        :param since: how many answers are left out, as `total` told earlier.
        """
        return Counter(model for code, model in self._answers[since:] if code == 200)

    def take(self, code: int, model: str, problem: str = "") -> None:
        """Count an answer."""
        self._answers.append((code, model))
        self.first.setdefault(model, time.monotonic())
        if problem:
            self.problems.append(f"{datetime.now(UTC):%H:%M:%S.%f} {code} {problem}")


@contextmanager
def load(url: str, rate: float, body: dict[str, Any] | None = None) -> Iterator[Load]:
    """Send requests while the block runs.

    :param url: where inference requests go.
    :param rate: requests a second.
    :param body: what is sent; changed meanwhile, the next requests have it.
    """
    found, ended = Load(), threading.Event()
    limits = httpx.Limits(max_connections=SENDERS)
    with httpx.Client(timeout=30, limits=limits) as client, ThreadPoolExecutor(SENDERS) as senders:
        send = partial(senders.submit, _send, client, url, INPUT if body is None else body, found)
        pace = threading.Thread(target=_pace, args=(send, rate, ended), daemon=True)
        pace.start()
        try:
            yield found
        finally:
            ended.set()
            pace.join()


def _pace(send: Callable[[], object], rate: float, ended: threading.Event) -> None:
    due = time.monotonic()
    while not ended.wait(max(0.0, due - time.monotonic())):
        # After a stall the lost requests are not made up for.
        due = max(due + 1 / rate, time.monotonic() - 1)
        send()


def _send(client: httpx.Client, url: str, body: dict[str, Any], found: Load) -> None:
    try:
        answer = client.post(url, json=body)
    except httpx.HTTPError as error:
        found.take(0, "", repr(error))
        return
    good = answer.status_code == 200
    model = answer.json().get("model_version", "") if good else ""
    found.take(answer.status_code, model, "" if good else answer.text or "no text")
