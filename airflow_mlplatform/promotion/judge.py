"""The gate: is the candidate worth promoting? A pure function of what the registry says and what the gate asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlplatform.promotion.marks import rolled_back
from airflow_mlplatform.promotion.metrics import judge_metric
from airflow_mlplatform.promotion.verdict import ComparedVersion, Outcome, Reason, Verdict
from airflow_mlplatform.specs.base import show_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime, timedelta

    from airflow_mlplatform.clients.mlflow_entities import ModelVersion, Run
    from airflow_mlplatform.specs.deployment import Gate, ModelRef

__all__ = ["Contender", "judge", "wanted"]


@dataclass(frozen=True)
class Contender:
    """A model version and the run that made it.

    :param version: what the registry says.
    :param run: what the tracking server says; ``None`` if the version names no run, or the run is gone.
    """

    version: ModelVersion
    run: Run | None = None

    @property
    def metrics(self) -> Mapping[str, float]:
        """What the run logged; nothing where there is no run."""
        return self.run.metrics if self.run else {}

    def tag(self, name: str) -> str | None:
        """A tag of the run, which bears the metrics, or else of the version."""
        return (self.run.tags if self.run else {}).get(name) or self.version.tags.get(name)

    def compared(self) -> ComparedVersion:
        """Itself, as the verdict keeps it."""
        version = self.version
        return ComparedVersion(
            name=version.name,
            version=version.version,
            run_id=version.run_id,
            model_uri=version.uri,
            metrics=dict(self.metrics),
        )


def judge(
    gate: Gate, model: ModelRef, candidate: Contender | None, champion: Contender | None, now: datetime
) -> Verdict:
    """Judge the candidate.

    :param gate: what is asked; how metrics are compared: :func:`~airflow_mlplatform.promotion.metrics.judge_metric`.
    :param model: the registered model and its two aliases.
    :param candidate: who bears the candidate's alias; ``None`` if nobody.
    :param champion: who bears the champion's alias; ``None`` if nobody.
    :param now: the time, with its zone, for ``min_age`` and ``max_age``.
    """
    outcome, reasons = _decide(gate, model, candidate, champion, now)
    return Verdict(
        outcome=outcome,
        model=model,
        reasons=tuple(reasons),
        candidate=candidate.compared() if candidate else None,
        champion=champion.compared() if champion else None,
    )


def _decide(
    gate: Gate, model: ModelRef, candidate: Contender | None, champion: Contender | None, now: datetime
) -> tuple[Outcome, list[Reason]]:
    if candidate is None:
        return "absent", [_no(f"no version of {model.name} {wanted(model)} yet")]
    if champion and champion.version.version == candidate.version.version:
        return "already", [_no(f"the version that {wanted(model)} is the {model.champion}")]
    if candidate.version.status == "PENDING_REGISTRATION":
        return "pending", [_no("the registry is still taking it in")]
    reasons = list(_reasons(gate, candidate, champion, now)) or [Reason(passed=True, text="the gate asks nothing")]
    refused = [reason for reason in reasons if not reason.passed]
    if gate.min_age is not None and now - candidate.version.creation_time < gate.min_age:
        reasons.append(_too_young(candidate.version.creation_time, gate.min_age))
        return ("refused" if refused else "pending"), reasons
    if not refused:
        return "promote", reasons
    return "pending" if _may_log_more(gate, candidate) else "refused", reasons


def wanted(model: ModelRef) -> str:
    """Say, after "a version that", who is a candidate."""
    if model.candidates is None:
        return f"bears the alias {model.candidate}"
    asked = [f"bears the tag {key}={value}" for key, value in model.candidates.tags.items()]
    if model.candidates.stage:
        asked.insert(0, f"is in stage {model.candidates.stage}")
    return " and ".join(asked) or "is registered"


def _may_log_more(gate: Gate, candidate: Contender) -> bool:
    run = candidate.run
    return run is not None and run.active and any(ask.name not in run.metrics for ask in gate.metrics)


def _reasons(gate: Gate, candidate: Contender, champion: Contender | None, now: datetime) -> Iterator[Reason]:
    version = candidate.version
    if version.status != "READY":
        why = f" ({version.status_message})" if version.status_message else ""
        yield _no(f"its registration ended as {version.status}{why}; register the model again")
    if rollback := rolled_back(version.tags):
        yield _no(rollback)
    if gate.max_age is not None:
        yield _age(version.creation_time, gate.max_age, now)
    for name, wanted in gate.tags.items():
        yield _tag(name, wanted, version.tags)
    if gate.metrics:
        yield from _metrics(gate, candidate, champion)


def _age(created: datetime, limit: timedelta, now: datetime) -> Reason:
    # The moment, not the age: the text must not change from one look to the next.
    made = f"it was registered on {created:%Y-%m-%d at %H:%M} UTC"
    if now - created <= limit:
        return Reason(passed=True, text=f"{made}, within the last {show_duration(limit)}")
    return _no(f"{made}, more than {show_duration(limit)} ago; train a new one")


def _too_young(created: datetime, limit: timedelta) -> Reason:
    return _no(
        f"it was registered on {created:%Y-%m-%d at %H:%M} UTC and must be {show_duration(limit)} old; "
        f"it may pass from {created + limit:%Y-%m-%d %H:%M} UTC on"
    )


def _tag(name: str, wanted: str, tags: Mapping[str, str]) -> Reason:
    if tags.get(name) == wanted:
        return Reason(passed=True, text=f"its tag {name} is {wanted!r}")
    found = f"is {tags[name]!r}" if name in tags else "is missing"
    return _no(f"its tag {name} {found}, it must be {wanted!r}")


def _metrics(gate: Gate, candidate: Contender, champion: Contender | None) -> Iterator[Reason]:
    version = candidate.version
    if not version.run_id:
        yield _no("the gate asks for metrics and it was registered without a run; register it from its run")
    elif candidate.run is None:
        yield _no(f"the gate asks for metrics and its run {version.run_id} is gone; train and register it again")
    else:
        for ask in gate.metrics:
            rival = champion.metrics if champion else None
            yield judge_metric(ask, candidate.metrics, rival, _incomparable(gate.same_data, candidate, champion))


def _incomparable(tag: str, candidate: Contender, champion: Contender | None) -> str | None:
    ours, theirs = candidate.tag(tag), champion.tag(tag) if champion else None
    if champion is None or not ours or not theirs or ours == theirs:
        return None
    return (
        f"was measured on {ours!r} and the champion's on {theirs!r} (tag {tag}), so that they cannot be compared; "
        f"log the champion's on {ours!r} to its run {champion.version.run_id} and set the tag there"
    )


def _no(text: str) -> Reason:
    return Reason(passed=False, text=text)
