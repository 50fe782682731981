"""Whether a predictor does well, judged from figures; where they come from is the caller's matter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_mlplatform.specs.deployment import Analysis, Winner

__all__ = ["Choice", "Contender", "Finding", "Judgement", "Requests", "Verdict", "conclude", "elect", "judge"]

Verdict: TypeAlias = Literal["pass", "fail", "no-traffic"]
"""``pass``: within the limits · ``fail``: beyond them · ``no-traffic``: too little to tell."""


class Frozen(BaseModel):
    """A value: nothing extra, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Requests(Frozen):
    """The predictions that were asked for within a window.

    :param total: how many.
    :param failed: how many of them were answered with anything but 2xx (gRPC: ``OK``), by that code.
    """

    total: int
    failed: dict[str, int] = {}

    @property
    def error_rate(self) -> float | None:
        """Share of those that failed; ``None`` without requests."""
        return sum(self.failed.values()) / self.total if self.total else None

    def __str__(self) -> str:
        codes = ", ".join(f"{count} × {code}" for code, count in sorted(self.failed.items()) if count)
        return f"{self.total} request{'' if self.total == 1 else 's'}" + (f" ({codes})" if codes else "")


class Finding(Frozen):
    """What one analysis came to.

    :param name: of the analysis.
    :param verdict: see :data:`Verdict`.
    :param account: a plain sentence with the figures.
    :param value: what was measured; ``None`` if there is no finite number.
    """

    name: str
    verdict: Verdict
    account: str
    value: float | None = None


class Judgement(Frozen):
    """What all analyses of one look came to.

    :param verdict: ``fail`` if one failed; else ``no-traffic`` if one had too little to tell; else ``pass``.
    :param findings: one an analysis, in their order.
    :param warnings: what else people should know, as that Prometheus saw only a part of its data.
    """

    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def account(self) -> str:
        """The findings in one line, those first that decided."""
        decided = sorted(self.findings, key=lambda finding: finding.verdict != self.verdict)
        return "; ".join(finding.account for finding in decided) or "there is nothing to analyse"


class Contender(Frozen):
    """One of the two predictors of an A/B test.

    :param value: what was measured; ``None`` if there was nothing, or NaN.
    :param requests: the predictions that were asked for meanwhile.
    """

    value: float | None
    requests: Requests


class Choice(Frozen):
    """How an A/B test ended.

    :param winner: ``candidate``; ``main`` if the candidate's lead is too small; ``None`` if there was too little
        traffic to tell.
    :param account: a plain sentence with the figures.
    """

    winner: Literal["candidate", "main"] | None
    account: str


def judge(analysis: Analysis, value: float | None, requests: Requests) -> Finding:
    """Judge one measurement.

    :param analysis: what must hold.
    :param value: what was measured; ``None`` or NaN if there was nothing to measure.
    :param requests: the predictions that were asked for meanwhile.
    """
    name = analysis.name
    if requests.total < analysis.min_samples:
        account = f"{name}: {requests}, {analysis.min_samples} are needed to tell"
        return Finding(name=name, verdict="no-traffic", account=account)
    if value is None or math.isnan(value):
        return Finding(name=name, verdict="no-traffic", account=f"{name}: nothing was measured, at {requests}")
    breach = _breach(analysis, value)
    return Finding(
        name=name,
        verdict="fail" if breach else "pass",
        account=f"{name}: {value:.6g}{breach or f', {_limits(analysis)}'}, of {requests}",
        value=value if math.isfinite(value) else None,
    )


def conclude(findings: Sequence[Finding], warnings: Iterable[str] = ()) -> Judgement:
    """Bring the findings of one look together."""
    found = {finding.verdict for finding in findings}
    verdict: Verdict = "fail" if "fail" in found else "no-traffic" if "no-traffic" in found else "pass"
    return Judgement(verdict=verdict, findings=tuple(findings), warnings=tuple(dict.fromkeys(warnings)))


def elect(winner: Winner, candidate: Contender, main: Contender) -> Choice:
    """Choose between two predictors: the candidate wins with a lead of at least ``by``; so 0 asks only not to be worse.

    :param winner: how the spec wants it.
    """
    both = {"candidate": candidate, "main": main}
    for name, one in both.items():
        if one.requests.total < winner.min_samples:
            return Choice(winner=None, account=f"{name} had {one.requests}, {winner.min_samples} are needed to tell")
        if one.value is None or math.isnan(one.value):
            return Choice(winner=None, account=f"nothing was measured for {name}, at {one.requests}")
    figures = ", ".join(f"{name} {one.value:.6g} of {one.requests}" for name, one in both.items())
    lead = _lead(winner, candidate.value or 0.0, main.value or 0.0)
    ahead = lead >= winner.by
    account = f"{figures}; the candidate leads by {lead:.6g}, {'enough' if ahead else 'too little'} for {winner.by:g}"
    return Choice(winner="candidate" if ahead else "main", account=account)


def _lead(winner: Winner, candidate: float, main: float) -> float:
    if candidate == main:
        return 0.0  # Also where both are infinite.
    return candidate - main if winner.best == "max" else main - candidate


def _breach(analysis: Analysis, value: float) -> str:
    if analysis.max is not None and value > analysis.max:
        return f" is above max {analysis.max:g}"
    if analysis.min is not None and value < analysis.min:
        return f" is below min {analysis.min:g}"
    return ""


def _limits(analysis: Analysis) -> str:
    limits = {"min": analysis.min, "max": analysis.max}
    return " and ".join(f"{name} {limit:g}" for name, limit in limits.items() if limit is not None) + " hold"
