"""Offsets, as Kafka Connect and Debezium were seen to tell them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlplatform.connectors.caught_up import lag, snapshot_done, takes_snapshot


def committed(topic: str, partition: int, offset: int) -> dict[str, Any]:
    return {"partition": {"kafka_topic": topic, "kafka_partition": partition}, "offset": {"kafka_offset": offset}}


def test_lag() -> None:
    targets = {"a": {"0": 10, "1": 5}, "b": {"0": 3}}
    assert lag(targets, []) == 18
    assert lag(targets, [committed("a", 0, 7), committed("a", 1, 5), committed("b", 0, 99)]) == 3
    assert lag({}, []) == 0


@pytest.mark.parametrize(
    ("offset", "done"),
    [
        ({"last_snapshot_record": False, "lsn": 1, "snapshot": "INITIAL", "snapshot_completed": False}, False),
        ({"last_snapshot_record": True, "lsn": 1, "snapshot": "INITIAL", "snapshot_completed": True}, True),
        ({"lsn_proc": 2, "messageType": "INSERT", "lsn": 2, "txId": 730}, True),
        ({"snapshot": True, "snapshot_completed": False, "file": "binlog.1", "pos": 4}, False),
        ({"initsync": True, "sec": 1}, False),
        ({"sec": 1, "ord": 2}, True),
    ],
)
def test_snapshot(offset: dict[str, Any], done: bool) -> None:
    assert snapshot_done([{"partition": {"server": "shop"}, "offset": offset}]) is done


def test_without_offsets_nothing_is_known() -> None:
    assert not snapshot_done([])
    assert takes_snapshot({})
    assert not takes_snapshot({"snapshot.mode": "no_data"})
