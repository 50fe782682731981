"""The metrics of this package: sent by Airflow's senders, harmless where nothing is sent, all of them documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_mlplatform.metrics import (
    CONNECTOR_RESTARTS,
    LOAD_TIME,
    LONGEST_LABEL,
    METRICS,
    PROMOTIONS,
    Metric,
)
from tests.unit.recorded_metrics import recording

DOCS = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
# What Airflow takes for a line of StatsD at most.
LONGEST_LINE = 250


def test_figures_reach_the_sender() -> None:
    with recording() as recorder:
        PROMOTIONS.add(model="wine")
        PROMOTIONS.add(2, model="wine")
        LOAD_TIME.set(7.5, dag_id="a", asset="b")
        LOAD_TIME.set(8.5, dag_id="a", asset="b")
    assert recorder.of(PROMOTIONS) == {("wine",): 3}
    assert recorder.of(LOAD_TIME) == {("a", "b"): 8.5}


def test_nothing_happens_where_metrics_are_off() -> None:
    PROMOTIONS.add(model="wine")
    LOAD_TIME.set(1, dag_id="a", asset="b")


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("pond://wine/a.parquet", "pond_//wine/a.parquet"),
        ("a,b=c|d:e#f\ng", "a_b_c_d_e_f_g"),
        ("größe", "gr__e"),
        ("", "none"),
        ("x" * 300, "x" * LONGEST_LABEL),
    ],
)
def test_labels_hold_what_every_sender_takes(given: str, sent: str) -> None:
    with recording() as recorder:
        CONNECTOR_RESTARTS.add(connector=given)
    assert recorder.of(CONNECTOR_RESTARTS) == {(sent,): 1}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_line_of_statsd_is_short_enough(metric: Metric) -> None:
    # Not all labels of one metric are long: an action, a result and a state are words of ours.
    words = {"action": "rollback", "result": "unchanged", "state": "going-back", "outcome": "promote"}
    labels = "".join(f",{label}={words.get(label, 'x' * LONGEST_LABEL)}" for label in metric.labels)
    assert len(metric.name + labels) <= LONGEST_LINE


def test_a_label_too_few_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="has the labels"):
        CONNECTOR_RESTARTS.add()


def test_the_page_lists_them_all() -> None:
    rows = re.findall(r"^\| `(mlplatform[\w.]+)` \| (\w+) \| (.*?) \| (.*?) \| (.*) \|$", DOCS, re.MULTILINE)
    listed = [
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)), emitter, what) for name, kind, labels, emitter, what in rows
    ]
    assert listed == [(one.name, one.kind, one.labels, one.emitter, one.meaning) for one in METRICS]
