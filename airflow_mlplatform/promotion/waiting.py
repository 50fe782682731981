"""What waiting for a promotion has in common, in the triggerer and on a worker: arguments, one look, how it ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from airflow_mlplatform.clients import mlflow_registry as mlflow
from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.promotion.choice import choose
from airflow_mlplatform.promotion.evidence import evidence
from airflow_mlplatform.promotion.verdict import Verdict, encode_verdict
from airflow_mlplatform.specs.deployment import Gate, ModelRef

if TYPE_CHECKING:
    from airflow_mlplatform.clients.http import Operation
    from airflow_mlplatform.clients.mlflow_entities import ModelVersion

__all__ = [
    "Ending",
    "OnRefusal",
    "PromotionEvent",
    "decode_event",
    "encode_event",
    "ending",
    "look",
    "parse_gate",
    "parse_model",
    "seen",
    "tell",
]

T = TypeVar("T", bound=BaseModel)

OnRefusal: TypeAlias = Literal["wait", "skip", "fail"]
Ending: TypeAlias = Literal["promoted", "skipped", "refused", "timeout", "error"]
MAX_TAG = 1000


class PromotionEvent(BaseModel):
    """How the wait ended.

    :param ending: ``promoted``, ``skipped``, ``refused``, ``timeout``, or ``error`` (one that no retry mends).
    :param message: what to tell people.
    :param verdict: the last verdict, encoded; ``None`` if none was reached.
    :param url: page of the version that was judged last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ending: Ending
    message: str
    verdict: dict[str, JsonValue] | None = None
    url: str | None = None

    @property
    def xcoms(self) -> dict[str, JsonValue]:
        """What the task leaves in XCom."""
        found: dict[str, JsonValue] = {"return_value": self.verdict, "model_version_url": self.url}
        return {key: value for key, value in found.items() if value is not None}


def encode_event(event: PromotionEvent) -> dict[str, Any]:
    """Write an event as JSON."""
    return event.model_dump(mode="json")


def decode_event(payload: object) -> PromotionEvent:
    """Read what :func:`encode_event` wrote.

    :raises ConfigurationError: if it is not understood; that is a failure, never a success.
    """
    try:
        return PromotionEvent.model_validate(payload)
    except ValidationError as error:
        raise ConfigurationError(
            f"the event {payload!r:.200} is not one of ModelPromotionTrigger ({error.error_count()} problems); "
            "let workers and triggerer run the same version of airflow-mlplatform, then clear the task"
        ) from None


def parse_model(value: object) -> ModelRef:
    """Read a sensor's ``model``, rendered.

    :raises ConfigurationError: saying what is wrong.
    """
    return _parse(ModelRef, "model", value)


def parse_gate(value: object) -> Gate:
    """Read a sensor's ``gate``, rendered; templates turn numbers into text, so text that is a number will do.

    :raises ConfigurationError: saying what is wrong.
    """
    return _parse(Gate, "gate", value)


def _parse(kind: type[T], name: str, value: object) -> T:
    try:
        return kind.model_validate(value, strict=False)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join([name, *map(str, first["loc"])])
        raise ConfigurationError(
            f"{where}: {first['msg']} (found {first['input']!r:.100}); correct this argument of ModelPromotionSensor"
        ) from None


def look(model: ModelRef, gate: Gate) -> Operation[tuple[Verdict, ModelVersion | None]]:
    """Look at the registry once and judge; the version is that of the candidate that the verdict is about.

    :raises ServiceError: if MLflow is away or refuses to answer.
    """
    now = datetime.now(UTC)
    candidates, champion = yield from evidence(model, gate, now)
    verdict = choose(gate, model, candidates, champion, now)
    judged = verdict.candidate.version if verdict.candidate else None
    return verdict, next((one.version for one in candidates if one.version.version == judged), None)


def ending(verdict: Verdict, on_refusal: OnRefusal) -> Ending | None:
    """Say how a verdict ends the wait; ``None`` if it goes on.

    Where there is nothing to judge yet it always goes on, and a candidate that is the champion already is no failure.
    """
    if verdict.promote:
        return "promoted"
    if on_refusal == "wait" or verdict.outcome in ("absent", "pending"):
        return None
    return "refused" if on_refusal == "fail" and verdict.outcome == "refused" else "skipped"


def tell(verdict: Verdict, version: ModelVersion | None) -> Operation[None]:
    """Write on the candidate's version, as tags, what the gate found; nothing where the gate was not asked."""
    if version is None or verdict.outcome == "already":
        return
    reasons = "; ".join(reason.text for reason in verdict.reasons)
    for key, value in (("mlplatform.verdict", verdict.outcome), ("mlplatform.verdict.reasons", reasons[:MAX_TAG])):
        yield from mlflow.set_model_version_tag(version.name, version.version, key, value)


def seen(verdict: Verdict, end: Ending | None, url: str | None) -> PromotionEvent:
    """Return the event of a verdict; while the wait goes on, the one that a timeout would end it with."""
    return PromotionEvent(ending=end or "timeout", message=verdict.summary, verdict=encode_verdict(verdict), url=url)
