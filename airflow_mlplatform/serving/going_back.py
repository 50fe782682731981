"""The way back: exactly what served before, and nothing of the candidate."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.serving.base import predictor_of
from airflow_mlplatform.serving.decision import Apply, Finish, Need, Remove, Stalled, Wait
from airflow_mlplatform.serving.predictor import CANDIDATE, sharing
from airflow_mlplatform.serving.state import Abort
from airflow_mlplatform.serving.writing import ended, with_notes

if TYPE_CHECKING:
    from airflow_mlplatform.serving.decision import Decision, Look
    from airflow_mlplatform.serving.plan import RolloutPlan
    from airflow_mlplatform.serving.state import RolloutState
    from airflow_mlplatform.serving.writing import Result

__all__ = ["SETTLES", "abort", "go_back", "on_the_way"]

Json = dict[str, Any]

SETTLES = timedelta(seconds=10)
"""Time that the proxies of nodes and of an ingress have to learn of servers and routes that are there already."""
LONGEST_DRAIN = timedelta(minutes=1)
"""Time after which a candidate goes, whether it gets requests still or not."""


def abort(
    plan: RolloutPlan,
    look: Look,
    state: RolloutState,
    why: str,
    *,
    lasting: bool = True,
    wanted: bool = False,
    kept: bool = False,
) -> Decision:
    """Put back what served before; if nothing did, nothing does.

    :param state: of the rollout that goes back, which a rollback has taken over.
    :param lasting: no other try can mend it.
    :param wanted: a person asked for it.
    :param kept: the candidate lost its A/B test.
    """
    answers = _answers(look.live, state)
    if answers and look.readiness is None:
        return Need("readiness")
    # Routes follow only while all servers are well, or it is the other one that is not.
    draining = answers and look.readiness is not None and look.readiness.serves(CANDIDATE)
    cause = Abort(why=why, at=look.now, lasting=lasting, wanted=wanted, kept=kept, draining=draining)
    ours = {"who": plan.who, "wish": plan.wish, "action": plan.action}
    going = state.model_copy(update={**ours, "abort": cause, "ready": None})
    if state.former is None:
        gone = f"{why}\nNothing served before, so nothing serves now."
        return Remove(ended(plan, going, look.now, _result(cause), gone).model_copy(update={"lasting": lasting}))
    return Apply(with_notes(on_the_way(plan, going, look.live), going), f"going back: {why}")


def _answers(live: Json | None, state: RolloutState) -> bool:
    """Whether there is a candidate that gets requests, and that is not there after the way back."""
    candidate = predictor_of((live or {}).get("spec") or {}, CANDIDATE)
    if candidate is None or state.former is None or predictor_of(state.former.spec, CANDIDATE):
        return False
    return bool(candidate.get("traffic")) and not candidate.get("shadow")


def on_the_way(plan: RolloutPlan, state: RolloutState, live: Json | None) -> Json:
    """Return what is applied on the way back: what served before, and at first the candidate without requests.

    :param live: the resource as it is.
    """
    assert state.abort is not None
    assert state.former is not None
    there = _restored(plan, state)
    candidate = predictor_of((live or {}).get("spec") or {}, CANDIDATE)
    if not state.abort.draining or candidate is None:
        return there
    served = predictor_of(state.former.spec, state.base)
    assert served is not None
    return {**there, "spec": {**there["spec"], "predictors": [sharing(served, 100), sharing(candidate, 0)]}}


def _restored(plan: RolloutPlan, state: RolloutState) -> Json:
    """Return the resource as it was before the rollout."""
    assert state.former is not None
    now = plan.resource.manifest([])
    kept = {key: now["metadata"][key] for key in ("name", "namespace") if key in now["metadata"]}
    metadata = {**kept, "labels": state.former.labels, "annotations": state.former.annotations}
    return {**now, "metadata": metadata, "spec": state.former.spec}


def go_back(plan: RolloutPlan, look: Look, state: RolloutState) -> Decision:
    """Wait until what served before is there again."""
    assert state.abort is not None
    if look.readiness is None:
        return Need("readiness")
    if state.abort.draining:
        return _drain(plan, look, state, state.abort)
    if look.readiness.ready:
        return _back(plan, look, state, "What served before is back.")
    account = look.readiness.failure.message if look.readiness.failure else look.readiness.account
    deadline = max(state.abort.at, look.began) + plan.ready_timeout
    if look.now < deadline and not look.readiness.failure:
        return Wait(f"going back: {account}", deadline)
    if not look.acted:
        return Stalled(
            f"{state.abort.why}\nWhat served before is applied again, but the Seldon operator has not acted on it: "
            f"{account}. Look whether it runs; a retry goes on from here"
        )
    return _back(plan, look, state, f"What served before was put back, but is not well either: {account}")


def _drain(plan: RolloutPlan, look: Look, state: RolloutState, cause: Abort) -> Decision:
    """Wait until the candidate gets no requests any more, then let it go."""
    assert look.readiness is not None
    if look.readiness.ready and state.ready is None:
        noted = state.model_copy(update={"ready": look.now})
        return Apply(with_notes(on_the_way(plan, noted, look.live), noted), "going back: no requests for the candidate")
    until = state.ready + SETTLES if state.ready else cause.at + LONGEST_DRAIN
    failed = any(one.predictor == CANDIDATE for one in look.readiness.failures)
    if look.now < until and not failed:
        return Wait(f"going back: until all proxies know: {look.readiness.account}", until)
    drained = cause.model_copy(update={"draining": False, "at": look.now})
    gone = state.model_copy(update={"abort": drained})
    return Apply(with_notes(_restored(plan, gone), gone), "going back: without the candidate")


def _back(plan: RolloutPlan, look: Look, state: RolloutState, how: str) -> Finish:
    assert state.abort is not None
    outcome = ended(plan, state, look.now, _result(state.abort), f"{state.abort.why}\n{how}")
    outcome = outcome.model_copy(update={"lasting": state.abort.lasting})
    return Finish(with_notes(_restored(plan, state), outcome), outcome)


def _result(cause: Abort) -> Result:
    if cause.kept:
        return "kept"
    return "done" if cause.wanted else "aborted"
