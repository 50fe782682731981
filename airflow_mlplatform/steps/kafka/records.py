"""From Kafka messages to Arrow: the columns that each record has, whatever its value is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_mlplatform.specs.kafka import KafkaSource

__all__ = ["Decoded", "ValueDecoder", "bytes_of", "record_batch", "stream_schema", "text_of"]


class Decoded(NamedTuple):
    """Values as one Arrow array, and why some of them are null: position → reason."""

    array: Any
    reasons: dict[int, str]


class ValueDecoder(NamedTuple):
    """How values become an Arrow array.

    :param type: the array's ``pyarrow.DataType``.
    :param decode: from a list of bytes, null for tombstones, to the array.
    """

    type: Any
    decode: Callable[[Sequence[bytes | None]], Decoded]


def text_of(values: Sequence[bytes | None]) -> Decoded:
    """Decode UTF-8."""
    import pyarrow as pa

    try:
        return Decoded(pa.array(values, pa.string()), {})
    except pa.ArrowInvalid:
        return _text_one_by_one(values)


def _text_one_by_one(values: Iterable[bytes | None]) -> Decoded:
    import pyarrow as pa

    found: list[str | None] = []
    reasons: dict[int, str] = {}
    for number, value in enumerate(values):
        try:
            found.append(None if value is None else value.decode())
        except UnicodeDecodeError as error:
            found.append(None)
            reasons[number] = f"is no UTF-8 text: {error.reason} at byte {error.start}"
    return Decoded(pa.array(found, pa.string()), reasons)


def bytes_of(values: Sequence[bytes | None]) -> Decoded:
    """Take bytes as they are."""
    import pyarrow as pa

    return Decoded(pa.array(values, pa.binary()), {})


def stream_schema(source: KafkaSource, values: ValueDecoder) -> Any:
    """The schema of :func:`record_batch`: the columns of each record, ``value``, and what does not parse."""
    import pyarrow as pa

    headers = pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))
    return pa.schema(
        [
            ("kafka_partition", pa.int32()),
            ("kafka_offset", pa.int64()),
            ("kafka_timestamp", pa.timestamp("ms", "UTC")),
            ("kafka_key", pa.string() if source.key == "text" else pa.binary()),
            ("kafka_headers", headers),
            ("kafka_tombstone", pa.bool_()),
            ("value", values.type),
            ("kafka_reason", pa.string()),
            ("kafka_bad_key", pa.binary()),
            ("kafka_bad_value", pa.binary()),
        ]
    )


def record_batch(messages: Sequence[Any], source: KafkaSource, values: ValueDecoder, schema: Any) -> Any:
    """Put messages into a ``pyarrow.RecordBatch``; those that do not parse with their bytes and the reason."""
    import pyarrow as pa
    from confluent_kafka import Message

    raw = list(map(Message.value, messages))
    raw_keys = list(map(Message.key, messages))
    keys = (text_of if source.key == "text" else bytes_of)(raw_keys)
    decoded = values.decode(raw)
    reasons = {**decoded.reasons, **{number: f"key {reason}" for number, reason in keys.reasons.items()}}
    columns = [
        pa.array(list(map(Message.partition, messages)), pa.int32()),
        pa.array(list(map(Message.offset, messages)), pa.int64()),
        pa.array([when if kind else None for kind, when in map(Message.timestamp, messages)], schema.field(2).type),
        keys.array,
        _headers(messages, schema.field(4).type),
        pa.array([value is None for value in raw], pa.bool_()) if None in raw else _repeat(False, len(raw)),
        decoded.array,
        *_bad(reasons, raw_keys, raw),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _bad(reasons: dict[int, str], keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> list[Any]:
    import pyarrow as pa

    if not reasons:
        return [
            pa.nulls(len(values), pa.string()),
            pa.nulls(len(values), pa.binary()),
            pa.nulls(len(values), pa.binary()),
        ]
    numbers = range(len(values))
    return [
        pa.array([reasons.get(number) for number in numbers], pa.string()),
        pa.array([keys[number] if number in reasons else None for number in numbers], pa.binary()),
        pa.array([values[number] if number in reasons else None for number in numbers], pa.binary()),
    ]


def _headers(messages: Sequence[Any], kind: Any) -> Any:
    import pyarrow as pa
    from confluent_kafka import Message

    found = list(map(Message.headers, messages))
    if not any(found):
        return pa.nulls(len(found), kind)
    rows = [[{"name": name, "value": value} for name, value in one] if one else None for one in found]
    return pa.array(rows, kind)


def _repeat(value: bool, times: int) -> Any:
    import pyarrow as pa

    return pa.repeat(pa.scalar(value, pa.bool_()), times)
