"""From Avro schemas to Arrow types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_mlplatform.exceptions import ConfigurationError

__all__ = ["LOGICAL", "ArrowTypes"]

LOGICAL = "mlplatform.logicalType"
REMEDY = "read format: raw and decode it in a transform"


@dataclass(frozen=True)
class ArrowTypes:
    """Translates Avro schemas that fastavro has parsed.

    :param named: the records, enums and fixed types that schemas refer to by name.
    """

    named: Mapping[str, Any] = field(default_factory=dict)

    def of(self, schema: Any, where: str, inside: tuple[str, ...] = ()) -> Any:
        """Return the ``pyarrow.DataType`` of a schema.

        :param where: name of the schema or field, for messages.
        :param inside: names of the records that it lies in.
        :raises ConfigurationError: for a union of several types, or a record within itself: no column type holds them.
        """
        if isinstance(schema, list):
            return self._union([one for one in schema if one != "null"], where, inside)
        if isinstance(schema, str):
            return self.of(self.named[schema], where, inside) if schema in self.named else _primitive(schema, where)
        kind = schema["type"]
        if kind == "record":
            return self._record(schema, where, inside)
        if kind in ("array", "map"):
            return self._container(schema, where, inside)
        return self.of(kind, where, inside) if isinstance(kind, (dict, list)) else _scalar(schema, where)

    def _record(self, schema: Any, where: str, inside: tuple[str, ...]) -> Any:
        import pyarrow as pa

        if schema["name"] in inside:
            raise ConfigurationError(
                f"{where}: record {schema['name']} holds itself, which no column type can; {REMEDY}"
            )
        names = (*inside, schema["name"])
        return pa.struct(
            [(one["name"], self.of(one["type"], f"{where}.{one['name']}", names)) for one in schema["fields"]]
        )

    def _container(self, schema: Any, where: str, inside: tuple[str, ...]) -> Any:
        import pyarrow as pa

        if schema["type"] == "array":
            return pa.list_(self.of(schema["items"], where, inside))
        return pa.map_(pa.string(), self.of(schema["values"], where, inside))

    def _union(self, members: list[Any], where: str, inside: tuple[str, ...]) -> Any:
        import pyarrow as pa

        types = [self.of(one, where, inside) for one in members] or [pa.null()]
        if len(set(types)) == 1:
            return types[0]
        numbers = (pa.int32(), pa.int64(), pa.float32(), pa.float64())
        if all(one in numbers for one in types):
            return pa.float64() if any(pa.types.is_floating(one) for one in types) else pa.int64()
        raise ConfigurationError(
            f"{where}: is a union of {', '.join(map(str, types))}, and a column has one type; {REMEDY}"
        )


def _scalar(schema: Any, where: str) -> Any:
    import pyarrow as pa

    if schema.get("logicalType") == "decimal":
        return pa.decimal128(schema["precision"], schema.get("scale", 0))
    if schema["type"] == "fixed":
        return pa.binary(schema["size"])
    if schema["type"] == "enum":
        return pa.string()
    return _logical().get((schema["type"], schema.get(LOGICAL))) or _primitive(schema["type"], where)


def _primitive(name: str, where: str) -> Any:
    import pyarrow as pa

    types = {
        "null": pa.null(), "boolean": pa.bool_(), "int": pa.int32(), "long": pa.int64(), "float": pa.float32(),
        "double": pa.float64(), "bytes": pa.binary(), "string": pa.string(),
    }  # fmt: skip
    if name not in types:
        raise ConfigurationError(f"{where}: is of type {name}, which no column type holds; {REMEDY}")
    return types[name]


def _logical() -> dict[tuple[str, Any], Any]:
    import pyarrow as pa

    return {
        ("int", "date"): pa.date32(),
        ("int", "time-millis"): pa.time32("ms"),
        ("long", "time-micros"): pa.time64("us"),
        ("long", "timestamp-millis"): pa.timestamp("ms", "UTC"),
        ("long", "timestamp-micros"): pa.timestamp("us", "UTC"),
        ("long", "local-timestamp-millis"): pa.timestamp("ms"),
        ("long", "local-timestamp-micros"): pa.timestamp("us"),
    }
