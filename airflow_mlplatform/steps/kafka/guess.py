"""Names and types of JSON keys, told from all records of a run and of the runs before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_mlplatform.steps.workbench import scan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from airflow_mlplatform.steps.engine import Engine

__all__ = ["guess_columns", "merged", "sql_types"]

UNKNOWN = "NULL"
SIMPLE = {UNKNOWN: UNKNOWN, "BOOLEAN": "BOOLEAN", "UBIGINT": "BIGINT", "BIGINT": "BIGINT", "DOUBLE": "DOUBLE"}
FETCHED = 1000


def guess_columns(file: Path, known: Iterable[tuple[str, str]], engine: Engine) -> dict[str, str]:
    """Tell the keys of all values, and of each a type that holds what was seen of it.

    Whole numbers become BIGINT, with others DOUBLE; objects, lists and what does not go together become text.

    :param file: Parquet file with the values as text, under ``value``.
    :param known: what is known of former runs; a key never goes, a type never becomes narrower.
    """
    columns = dict(known)
    # Each shape once: a stream has few of them, however many records. A filter by json_type would copy every value.
    query = (
        "SELECT DISTINCT json_structure(json) FROM (SELECT TRY_CAST(value AS JSON) AS json, kafka_reason "
        f"FROM {scan([str(file)])}) WHERE kafka_reason IS NULL"
    )
    # A thread holds two thousand documents at a time, as a thread of a partitioned write holds row groups.
    with engine.partitioning():
        found = engine.connection.execute(query)
        while rows := found.fetchmany(FETCHED):
            engine.go_on()
            for (shape,) in rows:
                columns = merged(columns, _keys(shape))
    return dict(sorted(columns.items()))


def _keys(shape: str | None) -> dict[str, object]:
    found = json.loads(shape) if shape else {}
    # Not all values are objects, and an object without keys has no shape of its own.
    return found if isinstance(found, dict) else {}


def merged(columns: Mapping[str, str], shape: Mapping[str, object]) -> dict[str, str]:
    """Add what one shape tells: key → DuckDB's word for a type, or a nested shape."""
    return {**columns, **{name: _common(columns.get(name, UNKNOWN), _simple(kind)) for name, kind in shape.items()}}


def _simple(kind: object) -> str:
    if not isinstance(kind, str):
        return "VARCHAR"
    return SIMPLE.get(kind, "VARCHAR")


def _common(one: str, other: str) -> str:
    if one == other or other == UNKNOWN:
        return one
    if one == UNKNOWN:
        return other
    return "DOUBLE" if {one, other} == {"BIGINT", "DOUBLE"} else "VARCHAR"


def sql_types(columns: Mapping[str, str]) -> dict[str, str]:
    """Give columns that were always null a type too, for now."""
    return {name: "VARCHAR" if kind == UNKNOWN else kind for name, kind in columns.items()}
