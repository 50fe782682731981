"""Messages of the client, taken apart column by column."""

from __future__ import annotations

import gc
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from confluent_kafka import Message

from airflow_mlplatform.specs.kafka import KafkaSource
from airflow_mlplatform.steps.kafka.records import Records, ValueDecoder, bytes_of, record_batch, stream_schema

SOURCE = KafkaSource(connection="events", topic="t", format="raw")
VALUES = ValueDecoder(pa.binary(), bytes_of)


def message(offset: int, **more: Any) -> Message:
    return Message(**{"topic": "t", "partition": 1, "offset": offset, "timestamp": (1, 1_700_000_000_123), **more})


MESSAGES = [
    message(5, key=b"ada", value=b"one", headers=[("trace", b"12"), ("none", None)]),
    message(7, value=b"three", timestamp=(0, -1)),
    message(8, key=b"bob"),
]


def test_each_field_of_each_message() -> None:
    records = Records.of(MESSAGES)
    assert len(records) == 3
    assert list(records.offsets) == [5, 7, 8]
    assert list(records.times) == [1_700_000_000_123, None, 1_700_000_000_123]
    rows = record_batch(records, SOURCE, VALUES, stream_schema(SOURCE, VALUES)).to_pylist()
    assert [row["value"] for row in rows] == [b"one", b"three", None]
    assert [row["kafka_key"] for row in rows] == ["ada", None, "bob"]
    assert [row["kafka_tombstone"] for row in rows] == [False, False, True]
    assert rows[0]["kafka_headers"] == [{"name": "trace", "value": b"12"}, {"name": "none", "value": None}]
    assert rows[0]["kafka_timestamp"] == datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)
    assert rows[1]["kafka_timestamp"] is None


def test_some_of_them() -> None:
    records = Records.of(MESSAGES)
    assert list(records.part(slice(1, 3)).offsets) == [7, 8]
    chosen = records.where([True, False, True])
    assert (list(chosen.offsets), list(chosen.values)) == ([5, 8], [b"one", None])
    assert not records.where([False] * 3)
    assert records.size == len(b"ada" + b"one" + b"12" + b"three" + b"bob")


def test_nothing_came() -> None:
    assert not Records.of([])
    assert record_batch(Records(), SOURCE, VALUES, stream_schema(SOURCE, VALUES)).num_rows == 0


def test_they_leave_nothing_for_the_collector() -> None:
    """The reader takes messages apart with the collector off: what outlives that is to be none of its business."""
    records = Records.of([message(number, key=b"k", value=b"v") for number in range(100)])
    for column in (records.partitions, records.offsets, records.times, records.keys, records.headers, records.values):
        assert not any(map(gc.is_tracked, column))
