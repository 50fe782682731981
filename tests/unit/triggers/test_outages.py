from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_mlplatform.triggers.outages import Outages

if TYPE_CHECKING:
    import pytest


def test_an_outage_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outages = Outages(5.0, logging.getLogger("test"))
    outages.answered()
    for _ in range(3):
        outages.failed(OSError("away."))
    outages.answered()
    outages.answered()
    assert [record.getMessage() for record in caplog.records] == [
        "away. Trying again, with growing pauses.",
        "It answers again, after 3 failed tries.",
    ]


def test_pauses_grow_to_a_minute_and_shrink_at_once() -> None:
    outages = Outages(5.0, logging.getLogger("test"))
    pauses = []
    for _ in range(6):
        pauses.append(outages.pause)
        outages.failed(OSError("away"))
    assert pauses == [5, 10, 20, 40, 60, 60]
    outages.answered()
    assert outages.pause == 5


def test_a_rare_look_is_not_made_more_often_by_an_outage() -> None:
    outages = Outages(600.0, logging.getLogger("test"))
    outages.failed(OSError("away"))
    assert outages.pause == 600


def test_a_long_outage_does_not_overflow() -> None:
    assert Outages(5.0, logging.getLogger("test"), failures=10_000_000).pause == 60
