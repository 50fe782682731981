"""The next thing to do in a rollout, decided from what is there: pure, so that anybody can go on at any moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.serving.base import base_of, former_of, predictor_of, served_version
from airflow_mlplatform.serving.decision import Apply, Ended, Finish, Need, Stalled, Wait
from airflow_mlplatform.serving.edits import differences, edited
from airflow_mlplatform.serving.going_back import SETTLES, abort, go_back, on_the_way
from airflow_mlplatform.serving.stages import Stage, predictors, stages
from airflow_mlplatform.serving.state import RolloutState, outcome_of, state_of
from airflow_mlplatform.serving.watching import watch
from airflow_mlplatform.serving.writing import as_it_is, ended, with_notes

if TYPE_CHECKING:
    from datetime import datetime

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
        return _UnderWay(plan, look, state).decide() if state.wish == plan.wish else _anew(plan, look, state)
    if look.known:
        return _lost(plan, look, state)
    return _busy(plan, look, state) if state else _idle(plan, look)


def _idle(plan: RolloutPlan, look: Look) -> Decision:
    outcome, live = outcome_of(look.live), look.live
    if outcome and (outcome.who == plan.who or (plan.answer and outcome.who.id == plan.who.id)):
        return Ended(outcome)
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
    return _wait_until_ready(plan, look, look.began)


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
    return _stage(plan, state, 0, look.now, account)


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


def _stage(plan: RolloutPlan, state: RolloutState, step: int, now: datetime, account: str = "") -> Apply:
    fresh = {"step": step, "since": now, "ready": None, "failures": 0, "dark": None, "paused": False}
    stage = _stages(plan, state)[step]
    entered = state.model_copy(update={**fresh, "steps": (*state.steps, str(stage))})
    return Apply(with_notes(_manifest(plan, entered), entered), account or f"step {len(entered.steps)}: {stage}")


def _stages(plan: RolloutPlan, state: RolloutState) -> tuple[Stage, ...]:
    return stages(plan.rollout, first=_former_predictor(state) is None)


def _former_predictor(state: RolloutState) -> Json | None:
    return predictor_of(state.former.spec, state.base) if state.former else None


def _manifest(plan: RolloutPlan, state: RolloutState, live: Json | None = None) -> Json:
    if state.abort:
        return on_the_way(plan, state, live)
    stage = _stages(plan, state)[state.step]
    return plan.resource.manifest(predictors(stage, _former_predictor(state), plan.resource, state.base))


def _wait_until_ready(plan: RolloutPlan, look: Look, since: datetime) -> Decision:
    """Wait for what was applied at ``since``; in the end it is the operator that does not act."""
    assert look.readiness is not None
    deadline = max(since, look.began) + plan.ready_timeout
    if look.now < deadline:
        return Wait(look.readiness.account, deadline)
    seconds = plan.ready_timeout.total_seconds()
    return Stalled(f"it was not ready within {seconds:.0f} s (serving.ready_timeout): {look.readiness.account}")


@dataclass(frozen=True)
class _UnderWay:
    """A rollout of ours that has begun."""

    plan: RolloutPlan
    look: Look
    state: RolloutState

    def decide(self) -> Decision:
        plan, look, state = self.plan, self.look, self.state
        assert look.live is not None
        if who_and_what := edited(look.live, _manifest(plan, state, look.live)):
            return self._stop(who_and_what)
        if state.abort:
            return go_back(plan, look, state)
        if look.readiness is None:
            return Need("readiness")
        if look.readiness.failure:
            return self._abort(look.readiness.failure.message, lasting=look.readiness.failure.lasting)
        if plan.answer == "rejected" and state.paused:
            return self._abort(f"it was rejected after {self.state.steps[-1]}")
        if not look.readiness.ready:
            return self._not_ready()
        return self._ready()

    @property
    def _stage(self) -> Stage:
        return _stages(self.plan, self.state)[self.state.step]

    def _stop(self, who_and_what: str) -> Decision:
        assert self.look.live is not None
        why = f"{who_and_what} while the rollout was at {self.state.steps[-1]}; what they did stays, and it has stopped"
        outcome = ended(self.plan, self.state, self.look.now, "stopped", why)
        return Finish(
            with_notes(as_it_is(self.look.live, _manifest(self.plan, self.state, self.look.live)), outcome), outcome
        )

    def _abort(self, why: str, *, lasting: bool = True) -> Decision:
        return abort(self.plan, self.look, self.state, why, lasting=lasting)

    def _not_ready(self) -> Decision:
        since = self.state.since
        if self.state.ready:
            since = self.state.ready + self.plan.rollout.interval
        waiting = _wait_until_ready(self.plan, self.look, since)
        if isinstance(waiting, Stalled) and self.look.acted:
            return self._abort(waiting.why, lasting=False)
        if isinstance(waiting, Stalled):
            return Stalled(
                f"{waiting.why}. The Seldon operator has not acted on it: look whether it runs; a retry goes on"
            )
        return waiting

    def _ready(self) -> Decision:
        if self._stage.kind == "whole":
            return self._advance()
        if self.state.ready is None:
            return self._note({"ready": self.look.now}, f"{self._stage}: ready")
        if not self._stage.watched:
            return self._settle(self.state.ready + SETTLES)
        if self.state.paused:
            return self._advance() if self.plan.answer == "approved" else self._paused()
        result = watch(self.plan, self.look, self.state)
        if isinstance(result, dict):
            return self._note(result, "noted")
        if isinstance(result, str):
            return self._end_of_stage(result)
        return result

    def _settle(self, until: datetime) -> Decision:
        if self.look.now < until:
            return Wait(f"{self._stage}: until all proxies know", until)
        return self._advance()

    def _end_of_stage(self, winner: str) -> Decision:
        pause = self.plan.rollout.pause
        if pause and self._stage.kind == "split" and self._stage.weight == pause.after:
            return self._note({"paused": True}, f"{self._stage}: waiting for a person")
        if self.plan.rollout.strategy == "ab" and self.plan.rollout.winner is None:
            return self._finish("staying", f"{self._stage} of the requests stay with the candidate")
        if winner == "main":
            return abort(self.plan, self.look, self.state, "the candidate did not win the A/B test", kept=True)
        return self._advance()

    def _advance(self) -> Decision:
        if self.state.step + 1 < len(_stages(self.plan, self.state)):
            return _stage(self.plan, self.state, self.state.step + 1, self.look.now)
        return self._finish("done", "")

    def _paused(self) -> Decision:
        return Ended(ended(self.plan, self.state, self.look.now, "paused", f"{self._stage}: waits for a person"))

    def _note(self, changes: dict[str, Any], account: str) -> Apply:
        noted = self.state.model_copy(update=changes)
        return Apply(with_notes(_manifest(self.plan, noted), noted), account)

    def _finish(self, result: Any, why: str) -> Finish:
        outcome = ended(self.plan, self.state, self.look.now, result, why)
        return Finish(with_notes(_manifest(self.plan, self.state), outcome), outcome)
