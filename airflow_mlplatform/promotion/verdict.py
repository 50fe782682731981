"""What the gate found about a candidate, as a value that travels: XCom, trigger events, tags."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.deployment import ModelRef

__all__ = ["ComparedVersion", "Outcome", "Reason", "Verdict", "decode_verdict", "encode_verdict"]

Outcome: TypeAlias = Literal["promote", "refused", "already", "pending", "absent"]
"""``promote``: worth it · ``refused``: the gate says no · ``already``: it is the champion ·
``pending``: cannot be judged yet · ``absent``: no version bears the candidate's alias."""

DERIVED = ("promote", "summary")


def _show_non_finite(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


# PostgreSQL's JSON, in which Airflow keeps XComs, knows neither NaN nor infinity.
Metric = Annotated[float, BeforeValidator(float), PlainSerializer(_show_non_finite, when_used="json")]


class Frozen(BaseModel):
    """A value: nothing extra, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Reason(Frozen):
    """One thing that the gate asked, and the answer.

    :param passed: whether the candidate fulfils it.
    :param text: a plain sentence with the figures.
    """

    passed: bool
    text: str


class ComparedVersion(Frozen):
    """A model version as it was when it was judged.

    :param name: the registered model.
    :param version: its number.
    :param run_id: the run that made it; empty if it was registered without one.
    :param model_uri: ``models:/name/version``.
    :param metrics: what the run had logged.
    """

    name: str
    version: int
    run_id: str
    model_uri: str
    metrics: dict[str, Metric]


class Verdict(Frozen):
    """What the gate found.

    :param outcome: see :data:`Outcome`.
    :param model: the registered model and the aliases of the two roles.
    :param reasons: what was asked, in the order of the gate.
    :param candidate: the version that was judged.
    :param champion: the version it was compared with; ``None`` if there was no champion.
    """

    outcome: Outcome
    model: ModelRef
    reasons: tuple[Reason, ...] = Field(min_length=1)
    candidate: ComparedVersion | None = None
    champion: ComparedVersion | None = None

    @property
    def promote(self) -> bool:
        """Whether the candidate is worth promoting."""
        return self.outcome == "promote"

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        who = f"{self.model.name} version {self.candidate.version}" if self.candidate else self.model.name
        over = f"over version {self.champion.version}" if self.champion else "as the first champion"
        return {
            "promote": f"{who}: worth promoting {over}",
            "refused": f"{who}: refused",
            "already": f"{who}: is the champion already",
            "pending": f"{who}: cannot be judged yet",
            "absent": f"{who}: no candidate yet",
        }[self.outcome]

    @property
    def summary(self) -> str:
        """The verdict and its reasons in Markdown, the failed ones marked."""
        lines = [f"- {'' if reason.passed else '**no**: '}{reason.text}" for reason in self.reasons]
        return "\n".join([f"**{self.headline}**", "", *lines])


def encode_verdict(verdict: Verdict) -> dict[str, Any]:
    """Write a verdict as JSON, with ``promote`` and ``summary`` for templates and people."""
    return {"promote": verdict.promote, "summary": verdict.summary, **verdict.model_dump(mode="json")}


def decode_verdict(value: object) -> Verdict:
    """Read what :func:`encode_verdict` wrote.

    :raises ConfigurationError: if it is anything else.
    """
    if not isinstance(value, dict):
        raise ConfigurationError(
            f"verdict is {type(value).__name__} {value!r:.200}, not what ModelPromotionSensor returns; "
            "pass the sensor's output: verdict=sensor.output"
        )
    try:
        return Verdict.model_validate({key: item for key, item in value.items() if key not in DERIVED})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(
            f"verdict.{where}: {first['msg']}; pass what ModelPromotionSensor returned, unchanged"
        ) from None
