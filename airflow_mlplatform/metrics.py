"""The metrics of this package, sent the way that Airflow sends its own: by StatsD, by OpenTelemetry, or not at all.

Where ``[metrics]`` of airflow.cfg turns nothing on, a figure costs a call of a function that does nothing. Airflow's
sender swallows what goes wrong on the way, so that no task fails of its metrics. ``docs/metrics.md`` lists them all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

__all__ = [
    "CANDIDATE_PERCENT",
    "CONNECTOR_FAILED_TASKS",
    "CONNECTOR_RESTARTS",
    "CONNECTOR_STATE",
    "CONNECTOR_WAITS",
    "LOAD_ROWS",
    "LOAD_TIME",
    "METRICS",
    "PROMOTIONS",
    "ROLLOUTS",
    "ROLLOUT_STATE",
    "ROLLOUT_STEP",
    "SPECS",
    "SPEC_INTERVAL",
    "VERDICTS",
    "Counter",
    "Gauge",
    "Metric",
]

Emitter = Literal["DAG processor", "triggerer", "worker", "triggerer, worker"]

# What statsd, its exporter and Airflow's own check all take in a label; a line of all labels may have 250 characters.
UNFIT = re.compile(r"[^A-Za-z0-9_.\-/]")
LONGEST_LABEL = 60


@dataclass(frozen=True)
class Metric:
    """What one figure is called, and what it means.

    :cvar kind: as Prometheus calls it.
    :param name: as Airflow takes it, before its prefix (``airflow`` if not configured otherwise).
    :param labels: names of its labels; each figure has a value for each.
    :param emitter: which processes send it.
    :param meaning: one sentence for people.
    """

    kind: ClassVar[str]

    name: str
    labels: tuple[str, ...]
    emitter: Emitter
    meaning: str

    @property
    def prometheus(self) -> str:
        """Its name in Prometheus, behind Airflow's default prefix."""
        return f"airflow_{self.name.replace('.', '_')}"

    def tags(self, labels: dict[str, str]) -> dict[str, str]:
        """Return the labels of a figure as every sender takes them."""
        assert labels.keys() == set(self.labels), f"{self.name} has the labels {self.labels}, not {tuple(labels)}"
        return {name: UNFIT.sub("_", str(labels[name]))[:LONGEST_LABEL] or "none" for name in self.labels}


class Counter(Metric):
    """It only rises."""

    kind = "counter"

    def add(self, count: int = 1, **labels: str) -> None:
        """Let it rise.

        :param labels: a value for each label.
        """
        from airflow.sdk.observability import stats

        stats.incr(self.name, count, tags=self.tags(labels))


class Gauge(Metric):
    """It is as it was told last."""

    kind = "gauge"

    def set(self, value: float, **labels: str) -> None:
        """Tell it.

        :param labels: a value for each label.
        """
        from airflow.sdk.observability import stats

        # StatsD's client would write a truth as `True`, which nobody reads.
        stats.gauge(self.name, float(value), tags=self.tags(labels))


SPECS = Gauge(
    "mlplatform.specs",
    ("bundle", "kind", "state"),
    "DAG processor",
    "Documents in the folder of specs; `state` is `loaded` or `broken`, `kind` is `unknown` where none is named.",
)
SPEC_INTERVAL = Gauge(
    "mlplatform.spec.interval",
    ("dag_id",),
    "DAG processor",
    "Seconds between two runs of a spec that starts by the clock.",
)
LOAD_TIME = Gauge(
    "mlplatform.load.time",
    ("dag_id", "asset"),
    "worker",
    "When data was last published at an asset, in seconds since 1970.",
)
LOAD_ROWS = Counter("mlplatform.load.rows", ("dag_id", "asset"), "worker", "Rows published at an asset.")
VERDICTS = Counter(
    "mlplatform.promotion.verdicts",
    ("model", "outcome"),
    "triggerer, worker",
    "Verdicts of gates, each once for as long as it stays the same; `outcome` is `promote`, `refused`, `already`, "
    "`pending` or `absent`.",
)
PROMOTIONS = Counter("mlplatform.promotion.promoted", ("model",), "worker", "Versions that became the champion.")
ROLLOUT_STATE = Gauge(
    "mlplatform.rollout.state",
    ("namespace", "deployment", "state"),
    "triggerer",
    "1 for the state that the rollout of a SeldonDeployment is in, 0 for the others: `rolling`, `paused`, "
    "`going-back`, `none`.",
)
ROLLOUT_STEP = Gauge(
    "mlplatform.rollout.step",
    ("namespace", "deployment"),
    "triggerer",
    "Number of the step that a rollout is at, from 1; 0 without one.",
)
CANDIDATE_PERCENT = Gauge(
    "mlplatform.rollout.candidate_percent",
    ("namespace", "deployment"),
    "triggerer",
    "Percent of the requests that the candidate was given.",
)
ROLLOUTS = Counter(
    "mlplatform.rollout.ended",
    ("namespace", "deployment", "action", "result"),
    "triggerer",
    "Rollouts that ended; `result` is `done`, `unchanged`, `paused`, `staying`, `kept`, `aborted` or `stopped`.",
)
CONNECTOR_STATE = Gauge(
    "mlplatform.connector.state",
    ("connector", "state"),
    "triggerer",
    "1 for the state that a connector was last seen in while a task waited for it, 0 for those before; in Kafka "
    "Connect's words, or `absent`.",
)
CONNECTOR_FAILED_TASKS = Gauge(
    "mlplatform.connector.failed_tasks",
    ("connector",),
    "triggerer",
    "Failed tasks of a connector, as last seen.",
)
CONNECTOR_RESTARTS = Counter(
    "mlplatform.connector.restarts",
    ("connector",),
    "triggerer",
    "Restarts of what had failed of a connector.",
)
CONNECTOR_WAITS = Counter(
    "mlplatform.connector.ended",
    ("connector", "ending"),
    "triggerer",
    "Waits for a connector that ended; `ending` is `done`, `failed`, `timeout`, `behind` or `mistake`.",
)

METRICS = (
    SPECS,
    SPEC_INTERVAL,
    LOAD_TIME,
    LOAD_ROWS,
    VERDICTS,
    PROMOTIONS,
    ROLLOUT_STATE,
    ROLLOUT_STEP,
    CANDIDATE_PERCENT,
    ROLLOUTS,
    CONNECTOR_STATE,
    CONNECTOR_FAILED_TASKS,
    CONNECTOR_RESTARTS,
    CONNECTOR_WAITS,
)
