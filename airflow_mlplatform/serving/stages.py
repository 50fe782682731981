"""The stages of a rollout, one write each: which predictors there are, and how traffic is divided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlplatform.serving.predictor import CANDIDATE, sharing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlplatform.serving.plan import Resource
    from airflow_mlplatform.specs.deployment import Rollout

__all__ = ["Stage", "predictors", "stages"]


@dataclass(frozen=True)
class Stage:
    """One write of a rollout, and what is waited for after it.

    :param kind: ``split``: traffic is divided; ``shadow``: the candidate gets copies; ``swap``: the candidate serves
        all while the predictor that served before gets the new model; ``drain``: that one serves all, for requests
        must not go to servers that are being removed; ``whole``: one predictor, the new model.
    :param weight: percent for the candidate.
    """

    kind: Literal["split", "shadow", "swap", "drain", "whole"]
    weight: int = 100

    @property
    def watched(self) -> bool:
        """Whether it lasts for a while, in which the candidate is looked at."""
        return self.kind in ("split", "shadow")

    def __str__(self) -> str:
        return {
            "split": f"{self.weight} %",
            "shadow": f"shadow {self.weight} %",
            "swap": "new model behind the former name",
            "drain": "no requests for the candidate",
            "whole": "one predictor",
        }[self.kind]


def stages(rollout: Rollout, *, first: bool = False) -> tuple[Stage, ...]:
    """Return the stages of a strategy, in their order.

    :param rollout: how traffic moves.
    :param first: nothing serves yet, so that there is nothing to compare with and nothing to divide.
    """
    whole = (Stage("whole"),)
    if first or rollout.strategy == "all-at-once":
        return whole
    if rollout.strategy == "shadow":
        return (Stage("shadow", rollout.weight or 100), *whole)
    weights = rollout.steps if rollout.strategy == "canary" else (rollout.weight or 50,)
    return (*(Stage("split", weight) for weight in weights), Stage("swap"), Stage("drain", 0), *whole)


def predictors(stage: Stage, former: Mapping[str, Any] | None, wished: Resource, base: str) -> list[dict[str, Any]]:
    """Return the predictors of a stage.

    :param former: the predictor that served before.
    :param wished: the new model.
    :param base: name of the predictor that serves before and after.
    """
    if stage.kind == "whole" or former is None:
        return [wished.predictor(base)]
    candidate = sharing(wished.predictor(CANDIDATE), stage.weight, shadow=stage.kind == "shadow")
    if stage.kind in ("swap", "drain"):
        return [sharing(wished.predictor(base), 100 - stage.weight), candidate]
    rest = 100 if stage.kind == "shadow" else 100 - stage.weight
    return [sharing(former, rest), candidate]
