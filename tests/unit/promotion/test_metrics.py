from __future__ import annotations

import math
from typing import Any

import pytest

from airflow_mlplatform.promotion.metrics import judge_metric
from airflow_mlplatform.specs.deployment import GateMetric


def asked(**more: Any) -> GateMetric:
    return GateMetric(name="rmse", **more)


@pytest.mark.parametrize(
    ("ask", "value", "passed"),
    [
        (asked(max=0.9), 0.9, True),
        (asked(max=0.9), 0.9000001, False),
        (asked(max=0.3), 0.1 + 0.2, True),
        (asked(min=0.3), 0.3 - 1e-17, True),
        (asked(min=0.3), 0.1, False),
        (asked(min=0.1, max=0.2), 0.15, True),
        (asked(min=0.1, max=0.2), 0.25, False),
        (asked(max=0), 0.0, True),
        (asked(max=0), 1e-20, False),
        (asked(min=-2, max=-1), -1.5, True),
    ],
)
def test_limits(ask: GateMetric, value: float, passed: bool) -> None:
    assert judge_metric(ask, {"rmse": value}, None).passed is passed


@pytest.mark.parametrize(
    ("best", "margin", "value", "rival", "passed"),
    [
        ("min", 0.01, 0.89, 0.90, True),
        ("min", 0.1, 0.8, 0.9, True),  # 0.9 - 0.8 is 0.09999999999999998
        ("min", 0.1, 0.81, 0.9, False),
        ("min", 0.01, 0.91, 0.90, False),
        ("max", 0.01, 0.90, 0.89, True),
        ("max", 0.01, 0.895, 0.89, False),
        ("max", 0.1, 1.1, 1.0, True),
        ("min", 0, 0.9, 0.9, True),
        ("max", 0, 0.9, 0.9, True),
        ("max", 0, 0.8999, 0.9, False),
        ("min", 0, 0.3, 0.1 + 0.2, True),
        ("min", 0.01, 0.9, 0.9, False),
        ("max", 5, -10, -15, True),
    ],
)
def test_margin_over_the_champion(best: Any, margin: float, value: float, rival: float, passed: bool) -> None:
    ask = asked(beats_champion_by=margin, best=best)
    assert judge_metric(ask, {"rmse": value}, {"rmse": rival}).passed is passed


def test_the_sentence_has_all_figures() -> None:
    reason = judge_metric(asked(max=0.9, beats_champion_by=0.01, best="min"), {"rmse": 0.71}, {"rmse": 0.75})
    assert reason.text == (
        "rmse 0.71: is at most 0.9, beats the champion's 0.75 by 0.04 (asked: a lead of at least 0.01)"
    )


def test_a_limit_and_the_margin_must_both_hold() -> None:
    ask = asked(max=0.9, beats_champion_by=0.01, best="min")
    assert not judge_metric(ask, {"rmse": 0.95}, {"rmse": 2.0}).passed
    assert not judge_metric(ask, {"rmse": 0.75}, {"rmse": 0.75}).passed


def test_values_that_differ_slightly_look_different() -> None:
    assert "0.9000001: is above 0.9" in judge_metric(asked(max=0.9), {"rmse": 0.9000001}, None).text


def test_no_champion_is_nothing_to_beat_but_limits_hold() -> None:
    ask = asked(max=0.9, beats_champion_by=0.01, best="min")
    assert judge_metric(ask, {"rmse": 0.8}, None).passed
    assert "no champion to beat" in judge_metric(ask, {"rmse": 0.8}, None).text
    assert not judge_metric(ask, {"rmse": 1.0}, None).passed


@pytest.mark.parametrize("rival", [{}, {"mae": 1.0}, {"rmse": math.nan}, {"rmse": math.inf}])
def test_a_champion_without_the_metric_is_nothing_to_beat_and_said_so(rival: dict[str, float]) -> None:
    reason = judge_metric(asked(beats_champion_by=0.01, best="min"), {"rmse": 0.8}, rival)
    assert reason.passed
    assert "nothing to beat" in reason.text


def test_a_missing_metric_is_refused_and_says_what_there_is() -> None:
    reason = judge_metric(asked(max=1), {"r2": 0.5, "mae": 1}, None)
    assert not reason.passed
    assert "mae, r2" in reason.text
    assert "no metrics at all" in judge_metric(asked(max=1), {}, None).text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.7976931348623157e308])
@pytest.mark.parametrize("ask", [asked(max=1), asked(min=1), asked(beats_champion_by=0, best="max")])
def test_what_is_not_a_finite_number_never_passes(ask: GateMetric, value: float) -> None:
    assert not judge_metric(ask, {"rmse": value}, {"rmse": 0.5}).passed
