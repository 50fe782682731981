"""The requests of an endpoint, counted by predictor as Seldon's executor counts them.

Counted are predictions (``POST``) as the caller sees them; the names, labels and buckets are those recorded from the
executor 1.17.1, so that the same queries and dashboards fit.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate

from pydantic import Field

from airflow_mlplatform.runtime.serving_files import Record

__all__ = ["BUCKETS", "Counts", "Traffic", "exposition"]

METRIC = "seldon_api_executor_server_requests_seconds"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds, in seconds."""


class Counts(Record):
    """Requests that were answered with one status code.

    :param buckets: how many took up to each of :data:`BUCKETS` and longer than the one before; last, longer than all.
    :param seconds: that all of them took.
    """

    buckets: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """How many."""
        return sum(self.buckets)

    def plus(self, seconds: float) -> Counts:
        """Return them with one more."""
        index = bisect_left(BUCKETS, seconds)
        buckets = (*self.buckets[:index], self.buckets[index] + 1, *self.buckets[index + 1 :])
        return Counts(buckets=buckets, seconds=self.seconds + seconds)


class Traffic(Record, frozen=False):
    """The requests since they are divided as they are.

    :param division: of the wish; see :class:`~airflow_mlplatform.runtime.serving_files.Wish`.
    :param predictors: by name of the predictor and status code.
    """

    division: str = ""
    predictors: dict[str, dict[str, Counts]] = Field(default_factory=dict)

    def count(self, predictor: str, code: int, seconds: float) -> None:
        """Count a request."""
        codes = self.predictors.setdefault(predictor, {})
        codes[str(code)] = codes.get(str(code), Counts()).plus(seconds)

    def by_code(self, predictor: str) -> dict[str, int]:
        """How many requests a predictor had, by status code."""
        return {code: counts.total for code, counts in self.predictors.get(predictor, {}).items()}

    def quantile(self, predictor: str, share: float) -> float | None:
        """Seconds within which a share of the requests was answered, as Prometheus tells it from a histogram.

        A value between two bounds is guessed from their distance; beyond the last bound it is the last bound.

        :returns: ``None`` without requests.
        """
        codes = self.predictors.get(predictor, {}).values()
        cumulated = list(accumulate(map(sum, zip(*(counts.buckets for counts in codes), strict=True))))
        if not cumulated or not cumulated[-1]:
            return None
        rank = share * cumulated[-1]
        index = next(number for number, count in enumerate(cumulated) if count >= rank)
        if index == len(BUCKETS):
            return BUCKETS[-1]
        below, lower = (cumulated[index - 1], BUCKETS[index - 1]) if index else (0, 0.0)
        inside = cumulated[index] - below
        return lower + (BUCKETS[index] - lower) * (rank - below) / inside if inside else BUCKETS[index]


def exposition(endpoints: Mapping[str, Traffic]) -> str:
    """Write the requests of all endpoints in Prometheus' text format.

    :param endpoints: what each had since the front started.
    """
    head = (f"# HELP {METRIC} Latency and number of predictions.", f"# TYPE {METRIC} histogram")
    return "\n".join([*head, *_series(endpoints), ""])


def _series(endpoints: Mapping[str, Traffic]) -> Iterator[str]:
    for name, traffic in sorted(endpoints.items()):
        for predictor, codes in sorted(traffic.predictors.items()):
            for code, counts in sorted(codes.items()):
                labels = (
                    f'code="{code}",deployment_name="{name}",method="post",predictor_name="{predictor}",'
                    'predictor_version="",service="predictions"'
                )
                for bound, count in zip((*BUCKETS, math.inf), accumulate(counts.buckets), strict=True):
                    shown = "+Inf" if bound == math.inf else f"{bound:g}"
                    yield f'{METRIC}_bucket{{{labels},le="{shown}"}} {count}'
                yield f"{METRIC}_sum{{{labels}}} {counts.seconds:.9g}"
                yield f"{METRIC}_count{{{labels}}} {counts.total}"
