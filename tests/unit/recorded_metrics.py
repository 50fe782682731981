"""What is given to Airflow's sender of metrics, kept instead of sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics.stats_utils import get_stats_factory

from airflow_mlplatform.metrics import Metric

Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass
class Recorder:
    """A sender as StatsD and OpenTelemetry are ones; see Airflow's ``StatsLogger``."""

    values: dict[Key, float] = field(default_factory=dict)
    gauged: list[tuple[str, float]] = field(default_factory=list)

    def incr(self, stat: str, count: int = 1, rate: float = 1, *, tags: dict[str, str] | None = None) -> None:
        """Add to a counter."""
        key = _key(stat, tags or {})
        self.values[key] = self.values.get(key, 0) + count

    def gauge(
        self, stat: str, value: float, rate: float = 1, delta: bool = False, *, tags: dict[str, str] | None = None
    ) -> None:
        """Set a gauge."""
        self.values[_key(stat, tags or {})] = value
        self.gauged.append((stat, value))

    def of(self, metric: Metric) -> dict[tuple[str, ...], float]:
        """The values of a metric by those of its labels."""
        return {
            tuple(dict(tags)[label] for label in metric.labels): value
            for (name, tags), value in self.values.items()
            if name == metric.name
        }


def _key(stat: str, tags: dict[str, str]) -> Key:
    return stat, tuple(sorted(tags.items()))


@contextmanager
def recording() -> Iterator[Recorder]:
    """Set Airflow's sender up as its own processes do; afterwards it is as airflow.cfg has it: silent."""
    recorder = Recorder()
    stats.initialize(factory=lambda: recorder, export_legacy_names=False)
    try:
        yield recorder
    finally:
        stats.initialize(factory=get_stats_factory(), export_legacy_names=False)
