"""What Prometheus' query API answers, parsed once into frozen objects.

The format: https://prometheus.io/docs/prometheus/latest/querying/api/#expression-query-result-formats
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Answer", "AnswerKind", "RangeAnswer", "Sample", "Series"]

AnswerKind = Literal["vector", "scalar", "string", "matrix"]


@dataclass(frozen=True)
class Sample:
    """One number of an answer.

    :param labels: of its series; none for a scalar.
    :param value: may be NaN or infinite; ``None`` for a native histogram, which is no number.
    """

    labels: Mapping[str, str]
    value: float | None

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read it from Prometheus' JSON."""
        return cls(data.get("metric") or {}, float(data["value"][1]) if "value" in data else None)


@dataclass(frozen=True)
class Answer:
    """What an instant query found.

    :param kind: what the expression is; ``string`` and ``matrix`` hold no samples.
    :param samples: one a series, in no order; empty if nothing matched.
    :param warnings: what Prometheus has to say about it, as that a part of the data was out of reach.
    """

    kind: AnswerKind
    samples: tuple[Sample, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @classmethod
    def parse(cls, data: Mapping[str, Any], warnings: Sequence[str]) -> Self:
        """Read it from Prometheus' JSON."""
        kind, result = data["resultType"], data["result"]
        if kind == "scalar":
            return cls(kind, (Sample({}, float(result[1])),), tuple(warnings))
        samples = tuple(map(Sample.parse, result)) if kind == "vector" else ()
        return cls(kind, samples, tuple(warnings))


@dataclass(frozen=True)
class Series:
    """One series over time.

    :param labels: of the series.
    :param points: times (UTC) with their values, oldest first.
    """

    labels: Mapping[str, str]
    points: tuple[tuple[datetime, float], ...]

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read it from Prometheus' JSON."""
        points = ((datetime.fromtimestamp(float(when), UTC), float(value)) for when, value in data.get("values") or ())
        return cls(data.get("metric") or {}, tuple(points))


@dataclass(frozen=True)
class RangeAnswer:
    """What a range query found.

    :param series: in no order; empty if nothing matched.
    :param warnings: see :class:`Answer`.
    """

    series: tuple[Series, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @classmethod
    def parse(cls, data: Mapping[str, Any], warnings: Sequence[str]) -> Self:
        """Read it from Prometheus' JSON."""
        return cls(tuple(map(Series.parse, data["result"])), tuple(warnings))
