"""From values to columns: JSON in SQL, guesses, Avro types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.kafka import KafkaSource
from airflow_mlplatform.steps.engine import Engine, identifier
from airflow_mlplatform.steps.kafka.avro_types import LOGICAL, ArrowTypes
from airflow_mlplatform.steps.kafka.columns import demand_names, json_columns
from airflow_mlplatform.steps.kafka.guess import guess_columns, merged, sql_types
from airflow_mlplatform.steps.kafka.records import ValueDecoder, stream_schema, text_of

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = KafkaSource(connection="events", topic="clicks")


def parsed(values: list[str | None], columns: dict[str, str]) -> list[tuple[Any, ...]]:
    schema = stream_schema(SOURCE, ValueDecoder(pa.string(), text_of))
    rows = [{"kafka_offset": number, "kafka_key": "k", "value": value} for number, value in enumerate(values)]
    with duckdb.connect() as connection:
        connection.register("stream", pa.Table.from_pylist(rows, schema=schema))
        names = ", ".join(identifier(name) for name in columns)
        query = json_columns(columns, SOURCE, "stream")
        return connection.sql(f"SELECT {names}, kafka_reason, kafka_bad_value FROM ({query})").fetchall()


@pytest.mark.parametrize(
    ("value", "kind", "found"),
    [
        ('{"a": 1}', "BIGINT", 1),
        ('{"a": "1"}', "BIGINT", 1),
        ('{"a": null}', "BIGINT", None),
        ('{"b": 1}', "BIGINT", None),
        ('{"a": "2026-01-02"}', "DATE", "2026-01-02"),
        ('{"a": {"x": 1}}', "VARCHAR", '{"x":1}'),
        ('{"a": ["x"]}', "VARCHAR[]", ["x"]),
        (None, "BIGINT", None),
    ],
)
def test_a_value_that_fits(value: str | None, kind: str, found: Any) -> None:
    ((column, reason, bytes_),) = parsed([value], {"a": kind})
    assert (str(column) if kind == "DATE" else column, reason, bytes_) == (found, None, None)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "is no JSON"),
        ('{"a": 1', "is no JSON"),
        ('{"a": 1} x', "is no JSON"),
        ("7", "is no JSON object but UBIGINT"),
        ("null", "is no JSON object but NULL"),
        ('{"a": "x"}', "a: a value of type VARCHAR is no BIGINT"),
        ('{"a": {}}', "a: a value of type OBJECT is no BIGINT"),
        ('{"a": 99999999999999999999}', "a: a value of type DOUBLE is no BIGINT"),
    ],
)
def test_a_value_that_does_not(value: str, reason: str) -> None:
    ((_, found, bytes_),) = parsed([value], {"a": "BIGINT"})
    assert found == reason
    assert bytes_ == value.encode()


def test_keys_of_any_name() -> None:
    columns = {"a/b": "BIGINT", "m~n": "BIGINT", 'say "x"': "BIGINT", "it's": "BIGINT"}
    assert parsed(['{"a/b": 1, "m~n": 2, "say \\"x\\"": 3, "it\'s": 4}'], columns) == [(1, 2, 3, 4, None, None)]
    ((*_, reason, _bytes),) = parsed(['{"m~n": "x"}'], columns)
    assert reason == "m~n: a value of type VARCHAR is no BIGINT"


def test_guesses_widen() -> None:
    columns: dict[str, str] = {}
    for shape in ({"n": "UBIGINT", "v": "NULL"}, {"n": "DOUBLE", "o": {"x": "NULL"}}, {"b": "BOOLEAN", "n": "BIGINT"}):
        columns = merged(columns, shape)
    assert columns == {"n": "DOUBLE", "v": "NULL", "o": "VARCHAR", "b": "BOOLEAN"}
    assert merged(columns, {"b": "VARCHAR", "v": "BIGINT"}) == {**columns, "b": "VARCHAR", "v": "BIGINT"}
    assert sql_types(columns)["v"] == "VARCHAR"


def test_a_guess_sees_every_record(tmp_path: Path) -> None:
    file = tmp_path / "values.parquet"
    duckdb.sql(
        """COPY (SELECT CASE range WHEN 299999 THEN '{"n": 1.5, "late": true}' WHEN 7 THEN 'bad' WHEN 8 THEN '{}'
        ELSE '{"n": 1}' END AS value, NULL::VARCHAR AS kafka_reason FROM range(300000)) TO '"""
        f"{file}'"
    )
    with Engine("1Gi", tmp_path) as engine:
        assert guess_columns(file, [("old", "BIGINT")], engine) == {"late": "BOOLEAN", "n": "DOUBLE", "old": "BIGINT"}


@pytest.mark.parametrize("names", [["a", "A"], ["kafka_key"], ["Kafka_Offset"], ["kafka_reason"]])
def test_names_that_cannot_stand_together(names: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="cannot be columns of one table"):
        demand_names(names, "topic clicks")


def test_names_that_can() -> None:
    demand_names(["key", "offset", "reason", "value", "kafka"], "topic clicks")


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ("long", pa.int64()),
        (["null", "string"], pa.string()),
        (["int", "null", "long"], pa.int64()),
        (["long", "double"], pa.float64()),
        ({"type": "long", LOGICAL: "timestamp-micros"}, pa.timestamp("us", "UTC")),
        ({"type": "int", LOGICAL: "date"}, pa.date32()),
        ({"type": "string", LOGICAL: "uuid"}, pa.string()),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, pa.decimal128(9, 2)),
        ({"type": "array", "items": ["null", "Named"]}, pa.list_(pa.string())),
        ({"type": "map", "values": "int"}, pa.map_(pa.string(), pa.int32())),
        ({"type": {"type": "fixed", "name": "F", "size": 4}}, pa.binary(4)),
        (["null"], pa.null()),
    ],
)
def test_avro_types(schema: Any, kind: pa.DataType) -> None:
    assert ArrowTypes({"Named": {"type": "enum", "name": "Named", "symbols": ["A"]}}).of(schema, "s") == kind


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (["string", "long"], "s: is a union of string, int64"),
        (
            {"type": "record", "name": "R", "fields": [{"name": "next", "type": ["null", "R"]}]},
            r"s\.next: record R holds",
        ),
        ("Unheard", "is of type Unheard"),
    ],
)
def test_avro_types_that_no_column_holds(schema: Any, words: str) -> None:
    named = {"R": schema} if isinstance(schema, dict) else {}
    with pytest.raises(ConfigurationError, match=f"{words}.*read format: raw"):
        ArrowTypes(named).of(schema, "s")
