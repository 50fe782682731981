"""Which offsets a run reads."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.kafka import KafkaSource
from airflow_mlplatform.steps.kafka.ranges import Bounds, Position, Reach, missing, plan


def source(**options: Any) -> KafkaSource:
    return KafkaSource(connection="events", topic="clicks", **options)


BOUNDS = Bounds("a", {0: (5, 20), 1: (0, 0)})


@pytest.mark.parametrize(
    ("position", "options", "spans"),
    [
        (None, {}, {0: (5, 20), 1: (0, 0)}),
        (None, {"start": "latest"}, {0: (20, 20), 1: (0, 0)}),
        (Position("a", {0: 7, 1: 0}), {}, {0: (7, 20), 1: (0, 0)}),
        (Position("a", {0: 20, 1: 0}), {}, {0: (20, 20), 1: (0, 0)}),
        (Position("a", {0: 7}), {"start": "latest"}, {0: (7, 20), 1: (0, 0)}),
        (Position("", {0: 7, 1: 0}), {}, {0: (7, 20), 1: (0, 0)}),
        (Position("a", {0: 2, 1: 0}), {"on_gap": "skip"}, {0: (5, 20), 1: (0, 0)}),
        (Position("a", {0: 30, 1: 0}), {"on_gap": "skip"}, {0: (20, 20), 1: (0, 0)}),
        (Position("b", {0: 30, 1: 0}), {"on_gap": "skip"}, {0: (5, 20), 1: (0, 0)}),
    ],
    ids=["first", "first at the end", "on", "nothing new", "new partition", "no ids", "gap", "cut off", "made anew"],
)
def test_a_plan(position: Position | None, options: dict[str, Any], spans: dict[int, tuple[int, int]]) -> None:
    assert plan(position, BOUNDS, source(**options)) == Reach("a", spans)


@pytest.mark.parametrize(
    ("position", "words"),
    [
        (Position("a", {0: 2, 1: 0}), "topic clicks: partition 0: offsets 2 to 4 are gone"),
        (Position("a", {1: 0}), "partition 0: offsets 0 to 4 are gone"),
        (Position("a", {0: 30, 1: 0}), "ends at offset 20 and was read to 30"),
        (Position("b", {0: 7, 1: 0}), "deleted and made anew"),
    ],
)
def test_records_that_were_lost(position: Position, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{words}.*on_gap: skip"):
        plan(position, BOUNDS, source())


@pytest.mark.parametrize(
    ("reach", "words"),
    [
        (Reach("a", {0: (5, 20), 1: (0, 0)}), ""),
        (Reach("a", {0: (3, 3)}), ""),
        (Reach("", {0: (6, 7)}), ""),
        (Reach("a", {0: (4, 6)}), "partition 0 holds offsets 5 to 19, not 4 to 5"),
        (Reach("a", {7: (0, 1)}), "partition 7"),
        (Reach("b", {0: (6, 7)}), "made anew"),
    ],
)
def test_what_cannot_be_read_again(reach: Reach, words: str) -> None:
    found = missing(reach, BOUNDS)
    assert words in found
    assert bool(found) == bool(words)


def test_json_and_back() -> None:
    reach = Reach("a", {10: (0, 5), 2: (3, 3)})
    assert Reach.of(reach.to_dict()) == reach
    assert list(reach.to_dict()["spans"]) == ["2", "10"]
    assert Position.of(reach.end.to_dict()) == Position("a", {10: 5, 2: 3})
    assert reach.offsets == 5
