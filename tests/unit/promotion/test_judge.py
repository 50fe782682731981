from __future__ import annotations

from dataclasses import replace
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


@pytest.mark.parametrize(
    ("minutes", "rmse", "outcome"), [(59, 0.8, "pending"), (60, 0.8, "promote"), (59, 2.0, "refused")]
)
def test_min_age_is_waited_for_unless_something_else_refuses(minutes: int, rmse: float, outcome: str) -> None:
    young = Contender(version(2, age=timedelta(minutes=minutes)), run({"rmse": rmse}))
    found = verdict(young, metrics=[RMSE], min_age="1h")
    assert found.outcome == outcome
    assert ("may pass from 2026-03-01 12:01 UTC on" in text(found)) is (minutes == 59)


def measured(number: int, on: str, rmse: float = 0.8, where: str = "run") -> Contender:
    tags = {"mlplatform.data.slice": on} if on else {}
    made = run({"rmse": rmse})
    if where == "run":
        made = replace(made, tags=tags)
    return Contender(version(number, tags={} if where == "run" else tags), made)


@pytest.mark.parametrize("where", ["run", "version"])
def test_figures_of_different_data_are_not_compared(where: str) -> None:
    found = verdict(measured(2, "june", 0.5, where), measured(1, "may", 0.8, where), metrics=[RMSE])
    assert found.outcome == "refused"
    assert "rmse 0.5: is at most 0.9, was measured on 'june' and the champion's on 'may'" in text(found)
    assert "log the champion's on 'june' to its run run-1" in text(found)


@pytest.mark.parametrize(("ours", "theirs"), [("june", "june"), ("june", ""), ("", "may"), ("", "")])
def test_figures_are_compared_where_no_tag_says_that_the_data_differ(ours: str, theirs: str) -> None:
    assert verdict(measured(2, ours, 0.5), measured(1, theirs, 0.8), metrics=[RMSE]).promote


def test_a_champion_that_was_measured_again_counts_with_what_its_run_says() -> None:
    champion = replace(measured(1, "june"), version=version(1, tags={"mlplatform.data.slice": "may"}))
    assert verdict(measured(2, "june", 0.5), champion, metrics=[RMSE]).promote


def test_limits_hold_whatever_the_data_and_another_tag_may_name_them() -> None:
    limit = GateMetric(name="rmse", max=0.9)
    assert verdict(measured(2, "june"), measured(1, "may"), metrics=[limit]).promote
    assert verdict(measured(2, "june"), measured(1, "may"), metrics=[RMSE], same_data="other").outcome == "refused"
    assert verdict(measured(2, "june", 0.5), measured(1, "may"), metrics=[RMSE], same_data="other").promote


def test_no_version_can_be_older_than_young_enough() -> None:
    with pytest.raises(ValueError, match="min_age is not below max_age"):
        Gate.model_validate({"min_age": "7d", "max_age": "1d"})
