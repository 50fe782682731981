"""The time between two steps: what the analysis says, how often it may say no, and when it says nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.serving.decision import Need, Wait
from airflow_mlplatform.serving.going_back import abort

if TYPE_CHECKING:
    from airflow_mlplatform.serving.decision import Decision, Look, Measured
    from airflow_mlplatform.serving.plan import RolloutPlan
    from airflow_mlplatform.serving.state import RolloutState
    from airflow_mlplatform.specs.deployment import Rollout

__all__ = ["watch"]

INTERVALS_WITHOUT_TRAFFIC = 10
FEWEST_LOOKS = 5


def watch(plan: RolloutPlan, look: Look, state: RolloutState, *, ends: bool = True) -> Decision | dict[str, Any] | str:
    """Return what is to be done in a stage that was ready and lasts.

    :param ends: whether it ends by its time; else something other is waited for, a person say, and only what is bad
        counts.
    :return: changes of the state to be noted; or, when the stage is over, who won: ``candidate`` or ``main``.
    """
    rollout = plan.rollout
    assert state.ready is not None
    over = state.ready + rollout.interval
    if not rollout.analysis and not ends:
        return Wait(_account(state, over))
    if not rollout.analysis and not rollout.winner:
        return "candidate" if look.now >= over else Wait(_account(state, over), over)
    if not rollout.analysis and look.now < over:
        return Wait(_account(state, over), over)
    if look.measured is not None:
        return _weigh(plan, look, state, look.measured, ends=ends)
    due = _next_look(rollout, look.measured_at, state.ready)
    if look.now < due:
        return Wait(_account(state, over), due)
    return Need("winner" if rollout.winner and look.now >= over and ends else "analysis", since=state.ready)


def _next_look(rollout: Rollout, measured_at: datetime | None, ready: datetime) -> datetime:
    last = max(measured_at or ready, ready)
    ahead = last + rollout.check_every
    return min(ahead, ready + rollout.interval) if last < ready + rollout.interval else ahead


def _weigh(
    plan: RolloutPlan, look: Look, state: RolloutState, seen: Measured, *, ends: bool
) -> Decision | dict[str, Any] | str:
    if seen.mistake:
        return abort(plan, look, state, f"the analysis at {state.steps[-1]} cannot be made: {seen.mistake}")
    if seen.judgement is None:
        return _dark(plan, look, state, seen.silence)
    if seen.judgement.verdict == "fail":
        return _failed(plan, look, state, seen.judgement.account)
    if state.dark or state.failures:
        return {"dark": None, "failures": 0}
    assert state.ready is not None
    over = state.ready + plan.rollout.interval
    if look.now < over or not ends:
        return Wait(f"{_account(state, over)}: {seen.judgement.account}", look.now + plan.rollout.check_every)
    quiet = seen.judgement.verdict == "no-traffic" or (seen.choice is not None and seen.choice.winner is None)
    if quiet:
        account = seen.choice.account if seen.choice and seen.choice.winner is None else seen.judgement.account
        return _silent(plan, look, state, account)
    return (seen.choice.winner if seen.choice else None) or "candidate"


def _failed(plan: RolloutPlan, look: Look, state: RolloutState, account: str) -> Decision | dict[str, Any]:
    if state.failures >= plan.rollout.failures:
        times = f" for the {state.failures + 1}th time in a row" if state.failures else ""
        return abort(plan, look, state, f"the analysis failed{times} at {state.steps[-1]}: {account}")
    return {"failures": state.failures + 1, "dark": None}


def _dark(plan: RolloutPlan, look: Look, state: RolloutState, why: str) -> Decision | dict[str, Any]:
    if state.dark is None:
        return {"dark": look.now}
    borne = patience(plan.rollout)
    if look.now - state.dark < borne:
        return Wait(f"the analysis gets no answer, traffic stays as it is: {why}", look.now + plan.rollout.check_every)
    seconds = borne.total_seconds()
    why = f"the analysis got no answer for {seconds:.0f} s at {state.steps[-1]}, so nobody knows how it does: {why}"
    return abort(plan, look, state, why, lasting=False)


def _silent(plan: RolloutPlan, look: Look, state: RolloutState, account: str) -> Decision | str:
    assert state.ready is not None
    rollout = plan.rollout
    if rollout.no_traffic == "pass":
        return "candidate"
    last = state.ready + rollout.interval * INTERVALS_WITHOUT_TRAFFIC
    if rollout.no_traffic == "wait" and look.now < last:
        return Wait(f"too little traffic to tell: {account}", look.now + rollout.check_every)
    why = f"there was too little traffic to tell at {state.steps[-1]}: {account}"
    return abort(plan, look, state, f"{why}; send requests, or say rollout.no_traffic: wait or pass")


def patience(rollout: Rollout) -> timedelta:
    """Return how long an analysis without an answer is borne: an interval, and five looks at least."""
    return max(rollout.interval, rollout.check_every * FEWEST_LOOKS)


def _account(state: RolloutState, over: datetime) -> str:
    return f"{state.steps[-1]} until {over:%H:%M:%S}"
