"""Everything of a rollout that is fixed before it begins."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_mlplatform.serving.state import Action, Who
    from airflow_mlplatform.specs.deployment import Rollout

__all__ = ["Answer", "Resource", "RolloutPlan", "read_answer"]

Answer = Literal["", "awaited", "approved", "rejected"]


def read_answer(value: Any) -> Answer:
    """Read what a person said at a pause.

    :param value: the result of Airflow's approval, or a word; ``None`` if nobody was asked, ``awaited`` if somebody is.
    """
    if value is None:
        return ""
    if value == "awaited":
        return "awaited"
    chosen = value.get("chosen_options") if isinstance(value, dict) else [value]
    return "approved" if [str(one).lower() for one in chosen or ()] in (["approve"], ["approved"]) else "rejected"


class Resource(Protocol):
    """The SeldonDeployment that is wished for, apart from how traffic is divided."""

    @property
    def digest(self) -> str:
        """The same for the same wish."""

    def predictor(self, name: str) -> dict[str, Any]:
        """Return the predictor that serves what is wished for, with all traffic."""

    def manifest(self, predictors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the resource with these predictors: what this package sets, nothing that belongs to others."""


@dataclass(frozen=True)
class RolloutPlan:
    """What is to be rolled out, how, and for whom.

    :param resource: the resource that is wished for.
    :param rollout: how traffic moves.
    :param ready_timeout: time that servers have to become ready, and that an operator which does not act is borne.
    :param who: whose rollout it is.
    :param main: name of the predictor that serves, where none does yet.
    :param model: the registered model; empty if it is none.
    :param version: its version.
    :param action: what it is; a rollback takes over from a rollout that is under way.
    :param answer: what a person said at the pause; empty if nobody was asked yet; ``awaited`` while somebody is.
    """

    resource: Resource
    rollout: Rollout
    ready_timeout: timedelta
    who: Who
    main: str = "main"
    model: str = ""
    version: str = ""
    action: Action = "deploy"
    answer: Answer = ""

    @property
    def wish(self) -> str:
        """Digest of what is wished for, and of how it is to be reached."""
        how = hashlib.sha256(self.rollout.model_dump_json().encode()).hexdigest()
        return f"{self.resource.digest}/{how[:16]}"
