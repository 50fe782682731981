"""How one metric of a candidate is held against its limits and against the champion."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from airflow_mlplatform.promotion.verdict import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_mlplatform.specs.deployment import GateMetric

__all__ = ["judge_metric"]

# Figures that are equal on paper (0.9 - 0.8 and 0.1) differ in their last bits; relative to the larger figure.
ROUNDING = 1e-9
# MLflow's SQL store keeps an infinity as the largest double.
LARGEST = 1.7976931348623157e308


def judge_metric(
    ask: GateMetric,
    candidate: Mapping[str, float],
    champion: Mapping[str, float] | None,
    incomparable: str | None = None,
) -> Reason:
    """Judge one metric.

    - A value that equals a limit keeps it; values that differ only by rounding are equal.
    - The champion is beaten by a lead of at least ``beats_champion_by``; so 0 asks only not to be worse.
    - Without a champion, or if the champion has no such (finite) metric, there is nothing to beat and that part passes.
    - A candidate whose metric is missing, NaN or infinite is refused.

    :param ask: what is asked of the metric.
    :param candidate: all metrics of the candidate.
    :param champion: all metrics of the champion; ``None`` if there is none.
    :param incomparable: why figures of the two cannot be compared; ``None`` if they can.
    """
    value = candidate.get(ask.name)
    if value is None:
        there = ", ".join(sorted(candidate)) or "no metrics at all"
        return Reason(passed=False, text=f"{ask.name}: its run did not log it; it logged {there}")
    if not _finite(value):
        return Reason(passed=False, text=f"{ask.name} {value}: is not a finite number")
    findings = [*_limits(ask, value), *_lead(ask, value, champion, incomparable)]
    return Reason(
        passed=all(passed for passed, _ in findings),
        text=f"{ask.name} {_show(value)}: " + ", ".join(text for _, text in findings),
    )


def _limits(ask: GateMetric, value: float) -> Iterator[tuple[bool, str]]:
    if ask.min is not None:
        passed = value >= ask.min or _same(value, ask.min)
        yield passed, f"is {'at least' if passed else 'below'} {_show(ask.min)}"
    if ask.max is not None:
        passed = value <= ask.max or _same(value, ask.max)
        yield passed, f"is {'at most' if passed else 'above'} {_show(ask.max)}"


def _lead(
    ask: GateMetric, value: float, champion: Mapping[str, float] | None, incomparable: str | None
) -> Iterator[tuple[bool, str]]:
    margin = ask.beats_champion_by
    if margin is None:
        return
    if champion is None:
        yield True, "there is no champion to beat"
        return
    rival = champion.get(ask.name)
    if rival is None or not _finite(rival):
        yield True, f"the champion has {'no such metric' if rival is None else rival}, so there is nothing to beat"
        return
    if incomparable:
        yield False, incomparable
        return
    lead = rival - value if ask.best == "min" else value - rival
    passed = lead >= margin or abs(lead - margin) <= ROUNDING * max(abs(value), abs(rival))
    verb = f"beats the champion's {_show(rival)} by {_show(lead)}"
    if lead < 0:
        verb = f"is worse than the champion's {_show(rival)} by {_show(-lead)}"
    elif _same(value, rival):
        verb = f"equals the champion's {_show(rival)}"
    yield passed, f"{verb} (asked: a lead of at least {_show(margin)})"


def _finite(value: float) -> bool:
    return math.isfinite(value) and abs(value) < LARGEST


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=ROUNDING, abs_tol=0.0)


def _show(value: float) -> str:
    return f"{value:.10g}"
