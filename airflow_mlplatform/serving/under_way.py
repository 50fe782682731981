"""A rollout that has begun: into its next stage, back, or to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.serving.base import predictor_of
from airflow_mlplatform.serving.decision import Apply, Ended, Finish, Need, Stalled, Wait
from airflow_mlplatform.serving.edits import edited
from airflow_mlplatform.serving.going_back import SETTLES, abort, go_back, on_the_way
from airflow_mlplatform.serving.predictor import CANDIDATE
from airflow_mlplatform.serving.stages import Stage, predictors, stages
from airflow_mlplatform.serving.watching import watch
from airflow_mlplatform.serving.writing import as_it_is, ended, with_notes

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_mlplatform.serving.decision import Decision, Look
    from airflow_mlplatform.serving.plan import RolloutPlan
    from airflow_mlplatform.serving.seen import Failure
    from airflow_mlplatform.serving.state import RolloutState

__all__ = ["UnderWay", "enter", "wait_until_ready"]

Json = dict[str, Any]


def enter(plan: RolloutPlan, state: RolloutState, step: int, now: datetime, account: str = "") -> Apply:
    """Apply a stage.

    :param step: its index.
    :param account: what to tell people, if it is not the stage's name.
    """
    fresh = {"step": step, "since": now, "ready": None, "failures": 0, "dark": None, "paused": False}
    stage = _stages(plan, state)[step]
    entered = state.model_copy(update={**fresh, "steps": (*state.steps, str(stage))})
    return Apply(with_notes(_manifest(plan, entered), entered), account or f"step {len(entered.steps)}: {stage}")


def wait_until_ready(plan: RolloutPlan, look: Look, since: datetime) -> Wait | Stalled:
    """Wait for what was applied at ``since``; in the end it is the operator that does not act."""
    assert look.readiness is not None
    deadline = max(since, look.began) + plan.ready_timeout
    if look.now < deadline:
        return Wait(look.readiness.account, deadline)
    seconds = plan.ready_timeout.total_seconds()
    return Stalled(f"it was not ready within {seconds:.0f} s (serving.ready_timeout): {look.readiness.account}")


def _stages(plan: RolloutPlan, state: RolloutState) -> tuple[Stage, ...]:
    return stages(plan.rollout, first=_former_predictor(state) is None)


def _former_predictor(state: RolloutState) -> Json | None:
    return predictor_of(state.former.spec, state.base) if state.former else None


def _manifest(plan: RolloutPlan, state: RolloutState, live: Json | None = None) -> Json:
    if state.abort:
        return on_the_way(plan, state, live)
    stage = _stages(plan, state)[state.step]
    return plan.resource.manifest(predictors(stage, _former_predictor(state), plan.resource, state.base))


@dataclass(frozen=True)
class UnderWay:
    """A rollout of ours that has begun.

    :param state: how far it is.
    """

    plan: RolloutPlan
    look: Look
    state: RolloutState

    def decide(self) -> Decision:
        """Return what is to be done next."""
        plan, look, state = self.plan, self.look, self.state
        assert look.live is not None
        if who_and_what := edited(look.live, _manifest(plan, state, look.live)):
            return self._stop(who_and_what)
        if state.abort:
            return go_back(plan, look, state)
        if look.refused:
            return self._abort(f"what comes after {state.steps[-1]} was refused: {look.refused}")
        if look.readiness is None:
            return Need("readiness")
        if failure := self._failure:
            return self._abort(failure.message, lasting=failure.lasting)
        if plan.answer == "rejected" and state.paused:
            return self._abort(f"it was rejected after {self.state.steps[-1]}")
        if not look.readiness.ready:
            return self._meanwhile(self._not_ready())
        return self._ready()

    @property
    def _stage(self) -> Stage:
        return _stages(self.plan, self.state)[self.state.step]

    @property
    def _failure(self) -> Failure | None:
        """What ends the rollout; not that the servers fail which served before, as long as they are needed."""
        assert self.look.readiness is not None
        mine = [one for one in self.look.readiness.failures if not (self._stage.watched and self._former_is(one))]
        return next(iter(mine), None)

    def _former_is(self, failure: Failure) -> bool:
        return failure.predictor == self.state.base

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
        assert self.look.readiness is not None
        if self._stage.watched and self.look.readiness.only(self.state.base):
            return self._hold()
        waiting = wait_until_ready(self.plan, self.look, self.look.unready or self.state.since)
        if isinstance(waiting, Stalled) and self.look.acted:
            return self._abort(waiting.why, lasting=False)
        if isinstance(waiting, Stalled):
            return Stalled(
                f"{waiting.why}. The Seldon operator has not acted on it: look whether it runs; a retry goes on"
            )
        return waiting

    def _hold(self) -> Decision:
        """Wait for the servers that served before: without them routes do not follow, forth or back."""
        assert self.look.readiness is not None
        failure, base = self.look.readiness.failure, self.state.base
        why = failure.message if failure else self.look.readiness.account
        sick = f"{base}, which served before, is not well, and {CANDIDATE} is: {why}"
        waiting = f"traffic stays as it is until {base} is well again: {sick}"
        if self.state.step or self.state.ready:
            return Wait(waiting)
        deadline = max(self.state.since, self.look.began) + self.plan.ready_timeout
        if self.look.now < deadline:
            return Wait(waiting, deadline)
        advice = f"No request went to {CANDIDATE} yet; mend {base}, or replace it with strategy: all-at-once"
        return self._abort(f"{sick}\n{advice}", lasting=False)

    def _meanwhile(self, waiting: Decision) -> Decision:
        """Judge the candidate while something else is waited for, so that nothing bad stays unseen."""
        # Until its own share has come it has that of the step before.
        since = self.state.ready or (self.state.since if self.state.step else None)
        if not (isinstance(waiting, Wait) and since and self._stage.watched):
            return waiting
        result = watch(self.plan, self.look, self.state.model_copy(update={"ready": since}), ends=False)
        if isinstance(result, dict):
            return self._note(result, "noted")
        assert not isinstance(result, str)
        return Wait(waiting.account, _first(waiting.until, result.until)) if isinstance(result, Wait) else result

    def _ready(self) -> Decision:
        if self._stage.kind == "whole":
            return self._advance()
        if self.state.ready is None:
            return self._note({"ready": self.look.now}, f"{self._stage}: ready")
        if not self._stage.watched:
            return self._settle(self.state.ready + SETTLES)
        if self.state.paused:
            return self._at_the_pause()
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

    def _at_the_pause(self) -> Decision:
        if self.plan.answer == "approved":
            return self._advance()
        if self.plan.answer == "awaited":
            return self._meanwhile(Wait(f"{self._stage}: a person is asked"))
        return Ended(ended(self.plan, self.state, self.look.now, "paused", f"{self._stage}: waits for a person"))

    def _advance(self) -> Decision:
        if self.state.step + 1 < len(_stages(self.plan, self.state)):
            return enter(self.plan, self.state, self.state.step + 1, self.look.now)
        return self._finish("done", "")

    def _note(self, changes: dict[str, Any], account: str) -> Apply:
        noted = self.state.model_copy(update=changes)
        return Apply(with_notes(_manifest(self.plan, noted), noted), account)

    def _finish(self, result: Any, why: str) -> Finish:
        outcome = ended(self.plan, self.state, self.look.now, result, why)
        return Finish(with_notes(_manifest(self.plan, self.state), outcome), outcome)


def _first(*moments: datetime | None) -> datetime | None:
    return min((one for one in moments if one), default=None)
