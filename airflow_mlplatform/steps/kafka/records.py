"""From Kafka messages to Arrow: the columns that each record has, whatever its value is."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Self

    from airflow_mlplatform.specs.kafka import KafkaSource

__all__ = ["Decoded", "Records", "ValueDecoder", "bytes_of", "record_batch", "stream_schema", "text_of"]

Headers = list[tuple[str, bytes | None]] | None


@dataclass(frozen=True)
class Records:
    """Some records, column by column: what is done for each of them is done in C.

    :param times: milliseconds since 1970; null where a record has none.
    """

    partitions: Sequence[int] = ()
    offsets: Sequence[int] = ()
    times: Sequence[int | None] = ()
    keys: Sequence[bytes | None] = ()
    headers: Sequence[Headers] = ()
    values: Sequence[bytes | None] = ()

    @classmethod
    def of(cls, messages: Sequence[Any]) -> Self:
        """Take apart messages of the client (``confluent_kafka.Message``)."""
        from confluent_kafka import Message

        partitions, offsets, keys, headers, values = (
            list(map(field, messages))
            for field in (Message.partition, Message.offset, Message.key, Message.headers, Message.value)
        )
        return cls(partitions, offsets, _times(list(map(Message.timestamp, messages))), keys, headers, values)

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def size(self) -> int:
        """Bytes of all keys, headers and values."""
        headers = sum(len(value or b"") for some in filter(None, self.headers) for _, value in some)
        return headers + sum(map(len, filter(None, self.keys))) + sum(map(len, filter(None, self.values)))

    def part(self, which: slice) -> Self:
        """Return those at some positions."""
        return type(self)(*(column[which] for column in self._columns))

    def where(self, wanted: Sequence[bool]) -> Self:
        """Return those whose flag is true."""
        return type(self)(*(list(compress(column, wanted)) for column in self._columns))

    @property
    def _columns(self) -> tuple[Sequence[Any], ...]:
        return self.partitions, self.offsets, self.times, self.keys, self.headers, self.values


def _times(stamps: Sequence[tuple[int, int]]) -> Sequence[int | None]:
    # The client's pairs: what the time is of (0: there is none), and the time.
    kinds, times = zip(*stamps, strict=True) if stamps else ((), ())
    return times if all(kinds) else [time if kind else None for kind, time in stamps]


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


def record_batch(records: Records, source: KafkaSource, values: ValueDecoder, schema: Any) -> Any:
    """Put records into a ``pyarrow.RecordBatch``; those that do not parse with their bytes and the reason."""
    import pyarrow as pa

    keys = (text_of if source.key == "text" else bytes_of)(records.keys)
    decoded = values.decode(records.values)
    reasons = {**decoded.reasons, **{number: f"key {reason}" for number, reason in keys.reasons.items()}}
    columns = [
        pa.array(records.partitions, pa.int32()),
        pa.array(records.offsets, pa.int64()),
        pa.array(records.times, schema.field(2).type),
        keys.array,
        _headers(records.headers, schema.field(4).type),
        _tombstones(records.values),
        decoded.array,
        *_bad(reasons, records),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _bad(reasons: dict[int, str], records: Records) -> list[Any]:
    import pyarrow as pa

    if not reasons:
        return [pa.nulls(len(records), kind) for kind in (pa.string(), pa.binary(), pa.binary())]
    numbers = range(len(records))
    return [
        pa.array([reasons.get(number) for number in numbers], pa.string()),
        pa.array([records.keys[number] if number in reasons else None for number in numbers], pa.binary()),
        pa.array([records.values[number] if number in reasons else None for number in numbers], pa.binary()),
    ]


def _headers(headers: Sequence[Headers], kind: Any) -> Any:
    import pyarrow as pa

    if not any(headers):
        return pa.nulls(len(headers), kind)
    rows = [[{"name": name, "value": value} for name, value in one] if one else None for one in headers]
    return pa.array(rows, kind)


def _tombstones(values: Sequence[bytes | None]) -> Any:
    import pyarrow as pa

    if None in values:
        return pa.array([value is None for value in values], pa.bool_())
    return pa.repeat(pa.scalar(False, pa.bool_()), len(values))
