"""Offsets, as Kafka Connect and Debezium were seen to tell them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlplatform.clients.kafka_connect_entities import Plugin
from airflow_mlplatform.connectors.caught_up import lag, snapshot_done, takes_snapshot
from airflow_mlplatform.exceptions import ConfigurationError


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


POSTGRES = Plugin("io.debezium.connector.postgresql.PostgresConnector", "source", "3.6.0.Final")


@pytest.mark.parametrize(
    ("config", "takes"),
    [
        ({}, True),
        ({"snapshot.mode": "when_needed"}, True),
        ({"snapshot.mode": "no_data"}, False),
        ({"snapshot.mode": "NEVER"}, False),
        ({"snapshot.mode": "configuration_based"}, False),
        (
            {"snapshot.mode": "configuration_based", "snapshot.mode.configuration.based.snapshot.data": "true"},
            True,
        ),
    ],
)
def test_sources_with_and_without_snapshot(config: dict[str, str], takes: bool) -> None:
    assert takes_snapshot(POSTGRES, config) is takes


def test_a_source_that_tells_of_no_snapshot_never_catches_up() -> None:
    with pytest.raises(ConfigurationError, match=r"FileSource does not tell.*drop wait_until"):
        takes_snapshot(Plugin("org.example.FileSource", "source", ""), {})
