from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlplatform.promotion.judge import Contender, judge
from airflow_mlplatform.specs.deployment import Gate, GateMetric
from tests.unit.promotion.builders import NOW, WINE, contender, run, version

if TYPE_CHECKING:
    from airflow_mlplatform.promotion.verdict import Verdict

RMSE = GateMetric(name="rmse", max=0.9, beats_champion_by=0.01, best="min")


def verdict(candidate: Contender | None, champion: Contender | None = None, **gate: Any) -> Verdict:
    return judge(Gate(**gate), WINE, candidate, champion, NOW)


def text(found: Verdict) -> str:
    return " | ".join(reason.text for reason in found.reasons)


def test_a_better_candidate_is_promoted_and_what_was_compared_is_kept() -> None:
    found = verdict(contender(7, rmse=0.7), contender(3, rmse=0.8), metrics=[RMSE])
    assert found.promote
    assert found.candidate is not None
    assert (found.candidate.model_uri, found.candidate.run_id, found.candidate.metrics) == (
        "models:/wine/7",
        "run-7",
        {"rmse": 0.7},
    )
    assert found.champion is not None
    assert (found.champion.version, found.champion.metrics) == (3, {"rmse": 0.8})


def test_a_worse_candidate_is_refused_with_each_reason() -> None:
    gate = [RMSE, GateMetric(name="r2", min=0.5)]
    found = verdict(contender(7, rmse=0.95, r2=0.6), contender(3, rmse=0.8), metrics=gate)
    assert found.outcome == "refused"
    assert [reason.passed for reason in found.reasons] == [False, True]
    assert "is worse than the champion's 0.8 by 0.15" in text(found)


def test_the_first_candidate_becomes_champion_if_the_limits_hold() -> None:
    found = verdict(contender(1, rmse=0.8), metrics=[RMSE])
    assert found.promote
    assert found.champion is None
    assert "as the first champion" in found.headline


def test_a_gate_that_asks_nothing_lets_through() -> None:
    assert verdict(contender(2)).promote
    assert verdict(Contender(version(2, run_id=""))).promote


def test_nobody_bears_the_alias_yet() -> None:
    found = verdict(None, contender(3, rmse=0.8), metrics=[RMSE])
    assert found.outcome == "absent"
    assert found.candidate is None
    assert "challenger" in text(found)


def test_the_champion_itself_is_not_promoted_again() -> None:
    found = verdict(contender(3, rmse=0.1), contender(3, rmse=0.1), metrics=[RMSE])
    assert found.outcome == "already"
    assert not found.promote


def test_a_registration_that_goes_on_is_waited_for_and_a_failed_one_is_refused() -> None:
    def candidate(status: str) -> Contender:
        return Contender(version(2, status=status, status_message="disk full"), run({"rmse": 0.1}))

    assert verdict(candidate("PENDING_REGISTRATION"), metrics=[RMSE]).outcome == "pending"
    failed = verdict(candidate("FAILED_REGISTRATION"), metrics=[RMSE])
    assert failed.outcome == "refused"
    assert "disk full" in text(failed)


@pytest.mark.parametrize(
    ("age", "passed"),
    [
        (timedelta(days=7), True),
        (timedelta(days=7, milliseconds=1), False),
        (timedelta(0), True),
        (-timedelta(minutes=5), True),  # the registry's clock is ahead
    ],
)
def test_max_age(age: timedelta, passed: bool) -> None:
    found = verdict(Contender(version(2, age=age)), max_age="7d")
    assert found.promote is passed


def test_the_text_about_age_does_not_change_with_the_clock() -> None:
    old = Contender(version(2, age=timedelta(days=8)))
    one = judge(Gate(max_age="7d"), WINE, old, None, NOW)
    other = judge(Gate(max_age="7d"), WINE, old, None, NOW + timedelta(seconds=30))
    assert one == other
    assert "2026-02-21 at 12:00 UTC" in text(one)


@pytest.mark.parametrize(
    ("tags", "outcome", "words"),
    [
        ({"validated": "yes"}, "promote", "is 'yes'"),
        ({"validated": "no"}, "refused", "is 'no', it must be 'yes'"),
        ({}, "refused", "is missing, it must be 'yes'"),
    ],
)
def test_required_tags(tags: dict[str, str], outcome: str, words: str) -> None:
    found = verdict(Contender(version(2, tags=tags)), tags={"validated": "yes"})
    assert found.outcome == outcome
    assert words in text(found)


def test_metrics_need_a_run() -> None:
    assert "without a run" in text(verdict(Contender(version(2, run_id="")), metrics=[RMSE]))
    gone = verdict(Contender(version(2)), metrics=[RMSE])
    assert gone.outcome == "refused"
    assert "run-2 is gone" in text(gone)


def test_a_run_that_still_runs_may_log_the_metric_yet() -> None:
    assert verdict(contender(2, "RUNNING"), metrics=[RMSE]).outcome == "pending"
    assert verdict(contender(2, "RUNNING", rmse=0.8), metrics=[RMSE]).promote
    assert verdict(contender(2, "RUNNING", rmse=2.0), metrics=[RMSE]).outcome == "refused"
    assert verdict(contender(2, "FINISHED"), metrics=[RMSE]).outcome == "refused"


def test_a_champion_whose_run_is_gone_leaves_nothing_to_beat() -> None:
    found = verdict(contender(2, rmse=0.8), Contender(version(1)), metrics=[RMSE])
    assert found.promote
    assert "nothing to beat" in text(found)
    assert found.champion is not None
    assert found.champion.version == 1
