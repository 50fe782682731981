"""The next thing to do in a rollout, decided from what is there: pure, so that anybody can go on at any moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.serving.base import base_of, former_of, predictor_of, served_version
from airflow_mlplatform.serving.decision import Ended, Need, Stalled, Wait
from airflow_mlplatform.serving.edits import differences
from airflow_mlplatform.serving.going_back import abort
from airflow_mlplatform.serving.stages import Stage, predictors, stages
from airflow_mlplatform.serving.state import RolloutState, outcome_of, state_of
from airflow_mlplatform.serving.under_way import UnderWay, enter, wait_until_ready
from airflow_mlplatform.serving.writing import ended

if TYPE_CHECKING:
    from airflow_mlplatform.serving.decision import Decision, Look
    from airflow_mlplatform.serving.plan import RolloutPlan

__all__ = ["decide"]

Json = dict[str, Any]


def decide(plan: RolloutPlan, look: Look) -> Decision:
    """Return what is to be done next.

    :param plan: what is to be rolled out.
    :param look: what is known at this moment.
    :raises ConfigurationError: if the rollout cannot be, or must not.
    """
    state = state_of(look.live)
    if look.live is not None and look.live["metadata"].get("deletionTimestamp"):
        return Wait("the resource is being removed")
    if state is not None and state.who.id == plan.who.id:
        return UnderWay(plan, look, state).decide() if state.wish == plan.wish else _anew(plan, look, state)
    if look.known:
        return _lost(plan, look, state)
    return _busy(plan, look, state) if state else _idle(plan, look)


def _idle(plan: RolloutPlan, look: Look) -> Decision:
    outcome, live = outcome_of(look.live), look.live
    if outcome and (outcome.who == plan.who or (plan.answer and outcome.who.id == plan.who.id)):
        return Ended(outcome)
    if live is None and look.removed and (look.removed.who, look.removed.wish) == (plan.who, plan.wish):
        return Ended(look.removed)
    base = base_of((live or {}).get("spec") or {}, plan.main)
    if result := _there_already(plan, live, base):
        return _unchanged(plan, look, result)
    if plan.answer:
        raise ConfigurationError(
            "the rollout that waited for an answer is no longer there; clear the deploy task to begin it again"
        )
    return _begin(plan, look, None)


def _there_already(plan: RolloutPlan, live: Json | None, base: str) -> str:
    """Say what the end would be, if the resource is as it is to be in the end; empty if it is not."""
    if live is None:
        return ""
    former = predictor_of(live["spec"], base)
    ends = {"unchanged": Stage("whole")}
    if plan.rollout.strategy == "ab" and plan.rollout.winner is None:
        ends["staying"] = stages(plan.rollout)[0]
    for result, stage in ends.items():
        wished = plan.resource.manifest(predictors(stage, former, plan.resource, base))
        if not any(differences(live["spec"], wished["spec"])):
            return result
    return ""


def _unchanged(plan: RolloutPlan, look: Look, result: Any) -> Decision:
    if look.readiness is None:
        return Need("readiness")
    if look.readiness.ready:
        version = served_version(former_of(look.live, plan.resource.manifest([])))
        why = "nothing differs from what serves"
        return Ended(ended(plan, None, look.now, result, why).model_copy(update={"former_version": version}))
    if look.readiness.failure:
        return Stalled(f"nothing differs from what is there, which is not well: {look.readiness.failure.message}")
    return wait_until_ready(plan, look, look.began)


def _busy(plan: RolloutPlan, look: Look, state: RolloutState) -> Decision:
    if plan.action == "rollback":
        return abort(plan, look, state, f"rolled back by {plan.who}", wanted=True)
    if look.owner is None:
        return Need("owner", who=state.who)
    if look.owner is False:
        return _begin(plan, look, state)
    account = (
        f"{state.who} is rolling out {state.model or 'something'} {state.version} there "
        f"({state.strategy}, {state.steps[-1] if state.steps else 'at the beginning'})"
    )
    if plan.rollout.when_busy == "refuse":
        raise ConfigurationError(
            f"{account}; this one is refused, as rollout.when_busy says: clear the task when that one has ended"
        )
    return Wait(f"waiting: {account}")


def _lost(plan: RolloutPlan, look: Look, state: RolloutState | None) -> Decision:
    outcome = outcome_of(look.live)
    if outcome and outcome.who.id == plan.who.id:
        return Ended(outcome)
    if look.live is None:
        why = "the resource was removed meanwhile, by a teardown or by a person"
    elif other := state or outcome:
        why = f"{other.who} took over ({other.action})"
    else:
        why = "somebody removed the notes of the rollout from the resource"
    return Ended(ended(plan, None, look.now, "stopped", f"{why}; what is there stays as it is"))


def _anew(plan: RolloutPlan, look: Look, state: RolloutState) -> Decision:
    """The same task wishes something else than when it began: from the start, and from what served then."""
    if look.refused:
        return abort(plan, look, state, f"the new wish was refused: {look.refused}")
    return _begin(plan, look, state)


def _begin(plan: RolloutPlan, look: Look, over: RolloutState | None) -> Decision:
    """Apply the first stage.

    :param over: a rollout that is not continued; what served before it is what serves before this one.
    """
    spec = (over.former.spec if over.former else {}) if over else (look.live or {}).get("spec") or {}
    base = over.base if over else base_of(spec, plan.main)
    former = over.former if over else former_of(look.live, plan.resource.manifest([plan.resource.predictor(base)]))
    first = predictor_of(spec, base) is None
    if plan.rollout.strategy != "all-at-once" and not look.dividing:
        return Need("dividing")
    if plan.rollout.strategy != "all-at-once" and not first:
        _check_shared(spec, plan.resource.manifest([])["spec"])
    state = RolloutState(
        action=plan.action,
        who=plan.who,
        wish=plan.wish,
        strategy=plan.rollout.strategy,
        model=plan.model,
        version=plan.version,
        former_version=served_version(former),
        base=base,
        former=former,
        since=look.now,
    )
    account = "nothing serves yet: all at once" if first and plan.rollout.strategy != "all-at-once" else ""
    return enter(plan, state, 0, look.now, account)


def _check_shared(there: Json, wished: Json) -> None:
    """Make sure that the servers which serve now stay as they are while the candidate is tried.

    :raises ConfigurationError: if what all predictors share would change.
    """
    for key, value in wished.items():
        if key != "predictors" and any(differences(there.get(key), value)):
            raise ConfigurationError(
                f"spec.{key} would change for the servers that serve now too ({there.get(key)!r:.50} → {value!r:.50}), "
                "nothing was applied; roll that change out with strategy: all-at-once first"
            )
