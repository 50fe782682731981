"""Whether an alert starts a run now, decided from the runs before it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow_mlplatform.alerts.listener import Listener
from airflow_mlplatform.alerts.turn import Before, NotNow, Start, decide

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LISTENER = Listener(alert="ModelDrifts", cooldown=timedelta(hours=6))
ROLLBACK = Listener(alert="ModelFails", action="rollback")


def ended(run_id: str, hours: float, state: str = "success") -> Before:
    return Before(run_id, state, NOW - timedelta(hours=hours))


def test_the_first_alert_starts_the_first_run() -> None:
    assert decide(LISTENER, [], NOW) == Start("alert__run__1")
    assert decide(ROLLBACK, [], NOW) == Start("alert__rollback__1")


def test_none_starts_while_a_run_goes_on_however_long_ago_it_began() -> None:
    going_on = [ended("alert__run__2", 30), Before("alert__run__1", "running", None)]
    assert decide(LISTENER, going_on, NOW) == NotNow("alert__run__1 is running")


def test_the_pause_begins_when_the_last_run_ends() -> None:
    (refused,) = [decide(LISTENER, [ended("alert__run__1", 5.9, "failed")], NOW)]
    assert refused == NotNow(
        "alert__run__1 ended at 2026-11-23 06:06:00 UTC, and cooldown: 6h lasts until 2026-11-23 12:06:00 UTC"
    )
    assert decide(LISTENER, [ended("alert__run__1", 6)], NOW) == Start("alert__run__2")


def test_a_run_that_was_cleared_counts_by_its_new_end() -> None:
    cleared = [ended("alert__run__7", 9), ended("alert__run__3", 1)]
    assert isinstance(decide(LISTENER, cleared, NOW), NotNow)


def test_ids_count_up_whatever_is_between_them() -> None:
    before = [ended("alert__run__by-hand", 7), ended("alert__run__9", 8), ended("alert__run__10", 9)]
    assert decide(LISTENER, before, NOW) == Start("alert__run__11")


def test_whoever_sees_the_same_comes_to_the_same_id() -> None:
    before = [ended("alert__run__1", 7)]
    others = Listener(alert="DataDrifts", labels={"model": "wine"}, cooldown=timedelta(hours=1))
    assert decide(LISTENER, before, NOW) == decide(others, before, NOW + timedelta(seconds=3)) == Start("alert__run__2")
