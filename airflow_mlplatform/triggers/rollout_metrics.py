"""How far the rollout of a SeldonDeployment is, as metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlplatform.metrics import CANDIDATE_PERCENT, ROLLOUT_STATE, ROLLOUT_STEP, ROLLOUTS
from airflow_mlplatform.serving.predictor import CANDIDATE
from airflow_mlplatform.serving.state import state_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlplatform.serving.state import Outcome, RolloutState

__all__ = ["report", "report_end"]

STATES = ("rolling", "paused", "going-back", "none")


def report(namespace: str, deployment: str, live: Mapping[str, Any] | None) -> None:
    """Report how far it is.

    :param live: the resource; ``None`` if there is none.
    :raises ConfigurationError: if the resource's note of its rollout is not understood.
    """
    where = {"namespace": namespace, "deployment": deployment}
    state = state_of(dict(live) if live else None)
    for name in STATES:
        ROLLOUT_STATE.set(name == _name(state), **where, state=name)
    ROLLOUT_STEP.set(state.step + 1 if state else 0, **where)
    CANDIDATE_PERCENT.set(_percent(live or {}), **where)


def report_end(namespace: str, deployment: str, outcome: Outcome) -> None:
    """Count a rollout that has ended."""
    ROLLOUTS.add(namespace=namespace, deployment=deployment, action=outcome.action, result=outcome.result)


def _name(state: RolloutState | None) -> str:
    if state is None:
        return "none"
    return "going-back" if state.abort else "paused" if state.paused else "rolling"


def _percent(live: Mapping[str, Any]) -> int:
    predictors = (live.get("spec") or {}).get("predictors") or ()
    return sum(int(one.get("traffic") or 0) for one in predictors if one.get("name") == CANDIDATE)
