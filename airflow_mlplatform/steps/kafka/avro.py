"""Avro values in the wire format of schema registries: a zero byte, the schema's id in four bytes, and the data.

Format: https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import NotFound
from airflow_mlplatform.steps.kafka.avro_types import ArrowTypes
from airflow_mlplatform.steps.kafka.records import Decoded, ValueDecoder
from airflow_mlplatform.steps.kafka.registry import Registry, registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_mlplatform.specs.kafka import KafkaSource
    from airflow_mlplatform.steps.login import Logins

__all__ = ["avro_values"]

HEAD = 5
# What fastavro raises on bytes that are no record of the schema.
WRONG = (ArithmeticError, EOFError, LookupError, MemoryError, TypeError, ValueError, struct.error)


@contextmanager
def avro_values(source: KafkaSource, logins: Logins) -> Iterator[tuple[ValueDecoder, tuple[str, ...]]]:
    """Open a decoder, whose columns are those of the newest schema of the subject.

    A record of another schema is brought into line by the rules of Avro: what it lacks takes the default, what the
    newest schema lacks is dropped.

    :returns: the decoder, and the names of the record's fields; none if values are no records.
    :raises NotFound: if the registry does not know the subject.
    """
    assert source.schema_registry is not None
    subject = source.schema_registry.subject or f"{source.topic}-value"
    with registry(logins(source.schema_registry.connection)) as schemas:
        newest = schemas.newest(subject)
        is_record = isinstance(newest, dict) and newest["type"] == "record"
        kind = ArrowTypes(newest.get("__named_schemas", {}) if is_record else {}).of(newest, subject)
        fields = tuple(one["name"] for one in newest["fields"]) if is_record else ()
        yield ValueDecoder(kind, _AvroDecoder(schemas, newest, kind).decode), fields


class _AvroDecoder:
    def __init__(self, schemas: Registry, newest: Any, kind: Any) -> None:
        from fastavro import schemaless_reader
        from fastavro.read import SchemaResolutionError

        self._schemas = schemas
        self._newest = newest
        self._kind = kind
        self._missing: set[int] = set()
        self._read = schemaless_reader
        self._wrong = (*WRONG, SchemaResolutionError)

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        found: list[Any] = []
        reasons: dict[int, str] = {}
        for number, value in enumerate(values):
            try:
                found.append(None if value is None else self._one(value))
            except _BadValue as error:
                found.append(None)
                reasons[number] = str(error)
        return Decoded(self._array(found, reasons), reasons)

    def _array(self, found: list[Any], reasons: dict[int, str]) -> Any:
        import pyarrow as pa

        try:
            return pa.array(found, self._kind)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            for number, one in enumerate(found):
                try:
                    pa.scalar(one, self._kind)
                except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
                    found[number] = None
                    reasons[number] = f"does not fit its column: {error}"
            return pa.array(found, self._kind)

    def _one(self, value: bytes) -> Any:
        if len(value) < HEAD or value[0]:
            raise _BadValue("is not in a registry's wire format")
        writer = self._writer(int.from_bytes(value[1:HEAD], "big"))
        data = BytesIO(value)
        data.seek(HEAD)
        try:
            record = self._read(data, writer, None if writer is self._newest else self._newest)
        except self._wrong as error:
            raise _BadValue(f"does not fit its Avro schema: {type(error).__name__}") from None
        if data.tell() != len(value):
            raise _BadValue("is longer than its Avro schema says")
        return record

    def _writer(self, number: int) -> Any:
        if number not in self._missing:
            try:
                schema = self._schemas.schema(number)
                return self._newest if schema == self._newest else schema
            except NotFound:
                self._missing.add(number)
        raise _BadValue(f"names schema {number}, which the registry does not know")


class _BadValue(Exception):
    """A value that is no record of its schema."""
