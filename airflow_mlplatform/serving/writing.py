"""What is written on a SeldonDeployment: the manifest, and on it the note of the rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow_mlplatform.serving.state import OUTCOME, STATE, Outcome, RolloutState, written

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_mlplatform.serving.plan import RolloutPlan

__all__ = ["Result", "as_it_is", "ended", "with_notes"]

Json = dict[str, Any]
Result = Literal["done", "unchanged", "paused", "staying", "kept", "aborted", "stopped"]


def with_notes(manifest: Json, note: RolloutState | Outcome) -> Json:
    """Return a manifest that bears a note; the other kind goes, since what is applied no more is removed."""
    metadata = manifest["metadata"]
    kept = {key: value for key, value in (metadata.get("annotations") or {}).items() if key not in (STATE, OUTCOME)}
    key = STATE if isinstance(note, RolloutState) else OUTCOME
    return {**manifest, "metadata": {**metadata, "annotations": {**kept, key: written(note)}}}


def as_it_is(live: Json, applied: Json) -> Json:
    """Return what was applied with the values that are there now, so that applying it changes nothing.

    :param live: the resource as it is.
    :param applied: what was applied last; says which fields are ours.
    """
    metadata = {**applied["metadata"]}
    for key in ("labels", "annotations"):
        there = live["metadata"].get(key) or {}
        metadata[key] = {name: there[name] for name in metadata.get(key) or {} if name in there}
    spec = {key: live["spec"][key] for key in applied["spec"] if key in live["spec"]}
    return {**applied, "metadata": metadata, "spec": spec}


def ended(plan: RolloutPlan, state: RolloutState | None, now: datetime, result: Result, why: str) -> Outcome:
    """Return how a rollout ended.

    :param state: how far it was; ``None`` if it never began.
    """
    return Outcome(
        action=plan.action,
        who=plan.who,
        result=result,
        why=why,
        wish=plan.wish,
        strategy=plan.rollout.strategy,
        model=plan.model,
        version=plan.version,
        former_version=state.former_version if state else "",
        steps=state.steps if state else (),
        at=now,
    )
