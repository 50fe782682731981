"""The way back: exactly what served before, and nothing of the candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlplatform.serving.decision import Apply, Finish, Need, Remove, Stalled, Wait
from airflow_mlplatform.serving.state import Abort
from airflow_mlplatform.serving.writing import ended, with_notes

if TYPE_CHECKING:
    from airflow_mlplatform.serving.decision import Decision, Look
    from airflow_mlplatform.serving.plan import RolloutPlan
    from airflow_mlplatform.serving.state import RolloutState
    from airflow_mlplatform.serving.writing import Result

__all__ = ["abort", "go_back", "restored"]

Json = dict[str, Any]


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
    cause = Abort(why=why, at=look.now, lasting=lasting, wanted=wanted, kept=kept)
    going = state.model_copy(update={"who": plan.who, "wish": plan.wish, "action": plan.action, "abort": cause})
    if state.former is None:
        gone = f"{why}\nNothing served before, so nothing serves now."
        return Remove(ended(plan, going, look.now, _result(cause), gone).model_copy(update={"lasting": lasting}))
    return Apply(with_notes(restored(plan, going), going), f"going back: {why}")


def restored(plan: RolloutPlan, state: RolloutState) -> Json:
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


def _back(plan: RolloutPlan, look: Look, state: RolloutState, how: str) -> Finish:
    assert state.abort is not None
    outcome = ended(plan, state, look.now, _result(state.abort), f"{state.abort.why}\n{how}")
    outcome = outcome.model_copy(update={"lasting": state.abort.lasting})
    return Finish(with_notes(restored(plan, state), outcome), outcome)


def _result(cause: Abort) -> Result:
    if cause.kept:
        return "kept"
    return "done" if cause.wanted else "aborted"
