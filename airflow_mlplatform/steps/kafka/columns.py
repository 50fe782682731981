"""From values to columns, in SQL; and which records do not parse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.kafka import KAFKA_COLUMNS
from airflow_mlplatform.steps.engine import identifier, literal

if TYPE_CHECKING:
    from airflow_mlplatform.specs.kafka import KafkaSource

__all__ = ["BAD", "demand_names", "json_columns", "plain_columns"]

BAD = ("kafka_reason", "kafka_bad_key", "kafka_bad_value")


def demand_names(names: Iterable[str], where: str) -> None:
    """Refuse names that cannot be columns beside each other and beside those that each record has.

    :raises ConfigurationError: naming two of them.
    """
    there = {name: name for name in (*KAFKA_COLUMNS, *BAD)}
    for name in names:
        other = there.get(name.lower())
        if other is not None:
            raise ConfigurationError(
                f"{where}: {name!r} and {other!r} cannot be columns of one table; name those that you want under "
                "columns, or read format: raw and take the values apart in a transform"
            )
        there[name.lower()] = name


def plain_columns(fields: Sequence[str], stream: str) -> str:
    """Write the SELECT for values that are decoded: structs (``fields`` are theirs), or one column ``value``."""
    values = [f"value.{identifier(name)} AS {identifier(name)}" for name in fields] or ["value"]
    return f"SELECT {', '.join((*KAFKA_COLUMNS, *values, *BAD))} FROM {stream}"


def json_columns(columns: Mapping[str, str], source: KafkaSource, stream: str) -> str:
    """Write the SELECT that takes JSON objects apart.

    A key that a record lacks, or whose value is null, is null. A value that does not fit its type makes the record one
    that does not parse.

    :param columns: keys and their types.
    :param stream: what to read from, as SQL.
    """
    struct = ", ".join(f"{identifier(name)} {kind}" for name, kind in columns.items())
    record = f"TRY_CAST(json AS STRUCT({struct}))" if columns else "NULL"
    values = [f"record.{identifier(name)} AS {identifier(name)}" for name in columns]
    key = "encode(kafka_key)" if source.key == "text" else "kafka_key"
    bad_key = f"CASE WHEN reason IS NULL THEN NULL ELSE coalesce(kafka_bad_key, {key}) END AS kafka_bad_key"
    bad_value = (
        "CASE WHEN reason IS NULL THEN NULL ELSE coalesce(kafka_bad_value, encode(value)) END AS kafka_bad_value"
    )
    return f"""
SELECT {", ".join((*KAFKA_COLUMNS, *values))}, reason AS kafka_reason, {bad_key}, {bad_value}
FROM (SELECT *, {_reason(columns)} AS reason FROM (SELECT *, {record} AS record FROM (
SELECT *, TRY_CAST(value AS JSON) AS json FROM {stream})))"""


def _reason(columns: Mapping[str, str]) -> str:
    nothing = " AND ".join(f"record.{identifier(name)} IS NULL" for name in columns) or "true"
    misfits = "".join(
        f" WHEN record.{identifier(name)} IS NULL AND coalesce(json_type(json, {_pointer(name)}), 'NULL') <> 'NULL' "
        f"THEN concat({literal(name)}, ': a value of type ', json_type(json, {_pointer(name)}), ' is no ', "
        f"{literal(kind)})"
        for name, kind in columns.items()
    )
    return (
        "CASE WHEN kafka_reason IS NOT NULL THEN kafka_reason WHEN value IS NULL THEN NULL "
        f"WHEN {nothing} AND json IS NULL THEN 'is no JSON' "
        f"WHEN {nothing} AND json_type(json) <> 'OBJECT' THEN concat('is no JSON object but ', json_type(json))"
        f"{misfits} END"
    )


def _pointer(name: str) -> str:
    """Write a key as JSON Pointer has it (RFC 6901), as a SQL literal."""
    return literal("/" + name.replace("~", "~0").replace("/", "~1"))
