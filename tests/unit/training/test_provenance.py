"""What a run remembers of the task that made it."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from airflow.sdk import Asset, AssetAlias

from airflow_mlplatform.training.provenance import DataAsset, Provenance


def event(day: int, **extra: Any) -> SimpleNamespace:
    return SimpleNamespace(timestamp=datetime(2026, 1, day, tzinfo=UTC), extra=extra)


class Events(list[Any]):
    """As Airflow's inlet events of one asset."""

    def ascending(self, ascending: bool) -> Events:
        return Events(sorted(self, key=lambda each: each.timestamp, reverse=not ascending))

    def limit(self, number: int) -> Events:
        return Events(self[:number])


def context(**changes: Any) -> Any:
    task_instance = {
        "dag_id": "wine-training",
        "run_id": "asset__1",
        "task_id": "train",
        "map_index": 2,
        "try_number": 1,
        "max_tries": 2,
        "log_url": "http://airflow/x",
        "task": SimpleNamespace(retries=2),
    }
    events = {name: changes.pop(name, {}) for name in ("triggering_asset_events", "inlet_events")}
    return {"ti": SimpleNamespace(**task_instance | changes)} | events


def test_the_key_is_of_the_task_not_of_the_try() -> None:
    key = Provenance.of(context()).key
    assert Provenance.of(context(try_number=2)).key == key
    others = [{"dag_id": "x"}, {"run_id": "x"}, {"task_id": "x"}, {"map_index": 3}]
    assert len({Provenance.of(context(**other)).key for other in others} | {key}) == 5


def test_names_cannot_run_into_each_other() -> None:
    assert Provenance.of(context(dag_id="a", run_id="bc")).key != Provenance.of(context(dag_id="ab", run_id="c")).key


def test_the_newest_event_of_each_asset_is_told_and_triggers_come_first() -> None:
    wine, orders = Asset("pond://wine"), Asset("pond://orders")
    told = Provenance.of(
        context(
            triggering_asset_events={wine: [event(2, uri="s3://w/2", schema_hash="h2"), event(1, uri="s3://w/1")]},
            inlet_events={
                wine: Events([event(9, uri="s3://w/9")]),
                orders: Events([event(1), event(3, uri="s3://o/3")]),
            },
        )
    )
    assert told.assets == (DataAsset("pond://wine", "s3://w/2", "h2"), DataAsset("pond://orders", "s3://o/3"))
    tags = told.tags()
    assert tags["mlplatform.data.asset"] == "pond://wine, pond://orders"
    assert tags["mlplatform.data.uri"] == "s3://w/2, s3://o/3"
    assert tags["mlplatform.airflow.url"] == "http://airflow/x"


def test_without_events_and_with_events_that_say_nothing() -> None:
    wine, alias = Asset("pond://wine"), AssetAlias("an alias")
    told = Provenance.of(context(triggering_asset_events={alias: [event(1)]}, inlet_events={wine: Events()}))
    assert told.assets == (DataAsset("pond://wine"),)
    assert "mlplatform.data.uri" not in told.tags()
    assert not [name for name in Provenance.of(context()).tags() if name.startswith("mlplatform.data")]
