"""What Prometheus knows of a predictor, asked and judged.

``ask`` and ``choose`` are operations, driven as those of the clients: ``await drive_async(ask(…), client.http)``. They
raise :class:`~airflow_mlplatform.exceptions.ServiceUnavailable` while Prometheus is away, which says nothing of the
predictor, and :class:`~airflow_mlplatform.exceptions.ConfigurationError` for a query that it cannot evaluate.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeGuard

from airflow_mlplatform.clients import prometheus_operations as prometheus
from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.serving.judgement import (
    Choice,
    Contender,
    Finding,
    Judgement,
    Requests,
    Verdict,
    conclude,
    elect,
    judge,
)
from airflow_mlplatform.serving.queries import NAMESPACE_LABELS, Scope, fill_in, latency, requests_by_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_mlplatform.clients.http import Operation
    from airflow_mlplatform.clients.prometheus_entities import Answer, Sample
    from airflow_mlplatform.specs.deployment import Analysis, Winner

__all__ = ["Choice", "Finding", "Judgement", "Requests", "Scope", "Verdict", "ask", "choose", "number", "requests_in"]


def ask(analyses: Sequence[Analysis], scope: Scope) -> Operation[Judgement]:
    """Ask Prometheus what the analyses want to know of a predictor, and judge it.

    :param analyses: the analyses of a rollout; without any, the verdict is ``pass``.
    :param scope: whom to look at, and how far back.
    """
    if not analyses:
        return conclude(())
    counted = yield from prometheus.query(requests_by_code(scope))
    requests, warnings = requests_in(counted), [*counted.warnings, *_namespace_unknown(counted, scope)]
    findings = []
    for analysis in analyses:
        finding, told = yield from _look(analysis, scope, requests)
        findings.append(finding)
        warnings.extend(told)
    return conclude(findings, warnings)


def choose(winner: Winner, candidate: Scope, main: Scope) -> Operation[Choice]:
    """Ask Prometheus which of two predictors does better.

    :param winner: how the spec wants it.
    :param candidate: the one.
    :param main: the other.
    :raises ConfigurationError: also if the query answers anything but one number.
    """
    ours = yield from _contender(winner, candidate)
    theirs = yield from _contender(winner, main)
    return elect(winner, ours, theirs)


def _contender(winner: Winner, scope: Scope) -> Operation[Contender]:
    counted = yield from prometheus.query(requests_by_code(scope))
    query = fill_in(winner.query, scope)
    answer = yield from prometheus.query(query)
    return Contender(value=number(answer, query), requests=requests_in(counted))


def _look(analysis: Analysis, scope: Scope, requests: Requests) -> Operation[tuple[Finding, tuple[str, ...]]]:
    if analysis.query is not None:
        query = fill_in(analysis.query, scope)
    elif analysis.metric is None or analysis.metric == "error-rate":
        return judge(analysis, requests.error_rate, requests), ()
    else:
        query = latency(analysis.metric, scope)
    answer = yield from prometheus.query(query)
    try:
        finding = judge(analysis, number(answer, query), requests)
    except ConfigurationError as error:
        finding = Finding(name=analysis.name, verdict="fail", account=f"{analysis.name}: {error}")
    return finding, answer.warnings


def number(answer: Answer, query: str) -> float | None:
    """Return the one number of an answer, which may be NaN; ``None`` if it holds no series.

    :param query: what was asked, for the message.
    :raises ConfigurationError: if it is no number, or several.
    """
    if answer.kind not in ("vector", "scalar"):
        what = {"string": "a text", "matrix": "a range of values, as [5m] makes it"}[answer.kind]
        raise ConfigurationError(f"{query} answers {what}; write an expression of one number")
    if len(answer.samples) > 1:
        first = ", ".join(f"{{{_labels(sample)}}}" for sample in answer.samples[:2])
        raise ConfigurationError(
            f"{query} answers {len(answer.samples)} series ({first} …); make one number of them, as with sum(…)"
        )
    if any(sample.value is None for sample in answer.samples):
        raise ConfigurationError(f"{query} answers a histogram; make a number of it, as with histogram_quantile(…)")
    return answer.samples[0].value if answer.samples else None


def requests_in(counted: Answer) -> Requests:
    """Read the answer to :func:`~airflow_mlplatform.serving.queries.requests_by_code`."""
    by_code: dict[str, int] = {}
    for sample in counted.samples:
        code = sample.labels.get("code", "")
        by_code[code] = by_code.get(code, 0) + (round(sample.value) if _is_finite(sample.value) else 0)
    failed = {code: count for code, count in by_code.items() if not _is_success(code) and count}
    return Requests(total=sum(by_code.values()), failed=failed)


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _is_success(code: str) -> bool:
    return code == "OK" or (len(code) == 3 and code.startswith("2"))


def _namespace_unknown(counted: Answer, scope: Scope) -> tuple[str, ...]:
    if all(any(label in sample.labels for label in NAMESPACE_LABELS) for sample in counted.samples):
        return ()
    return (
        f"Prometheus does not know in which namespace {scope.deployment} is: a SeldonDeployment of that name elsewhere "
        f"counts too; let its scrape add the label {NAMESPACE_LABELS[0]}",
    )


def _labels(sample: Sample) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in sorted(sample.labels.items()))
