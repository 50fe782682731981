from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import adbc_driver_postgresql.dbapi
import pytest

from airflow_mlplatform.exceptions import ConfigurationError, MlplatformError, ServiceRefused, ServiceUnavailable
from airflow_mlplatform.specs.etl import SqlSource
from airflow_mlplatform.steps.database import read_sql
from airflow_mlplatform.steps.engine import Stopped
from airflow_mlplatform.steps.postgres import _uri
from tests.services.etl_parts import Site
from tests.services.postgres_server import postgres

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlplatform.steps.login import Login

__all__ = ["postgres"]


@pytest.fixture
def site(tmp_path: Path, postgres: Login) -> Site:
    return Site(tmp_path, {
        "shop": postgres,
        "wrong": replace(postgres, password="t0tally-wrong"),
        "nodb": replace(postgres, schema="nodb"),
        "down": replace(postgres, port=1),
    })  # fmt: skip


def ask(site: Site, query: str, connection: str = "shop") -> tuple[dict[str, str], list[tuple[Any, ...]]]:
    with site.bench() as bench:
        table = read_sql(SqlSource(connection=connection, query=query), bench)
        return dict(bench.engine.columns(table.query)), bench.engine.rows(table.query)


def test_types(site: Site) -> None:
    types, rows = ask(
        site,
        """SELECT 1::smallint a, 2::bigint b, 1.5::real c, 'x'::varchar(5) d, true e,
        '2026-01-01 12:00+02'::timestamptz f, '2026-01-01'::date g, '{"a":1}'::jsonb h, array[1,2] i,
        '\\xff'::bytea j, 12.34::numeric(12,2) k, 0.1::numeric l,
        'NaN'::numeric m, null::text n, 12345678901234567890::numeric(20,0) o, '2026-01-01 12:00'::timestamp p;""",
    )
    assert list(types.values()) == [
        "SMALLINT", "BIGINT", "FLOAT", "VARCHAR", "BOOLEAN", "TIMESTAMP WITH TIME ZONE", "DATE", "JSON", "INTEGER[]",
        "BLOB", "DECIMAL(12,2)", "DOUBLE", "DOUBLE", "VARCHAR", "DECIMAL(20,0)", "TIMESTAMP",
    ]  # fmt: skip
    (row,) = rows
    assert row[5].astimezone(UTC) == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert row[6:8] == (date(2026, 1, 1), '{"a": 1}')
    assert (row[10], row[11], row[14]) == (Decimal("12.34"), 0.1, Decimal(12345678901234567890))
    assert row[12] != row[12]


def test_many_rows_and_none(site: Site) -> None:
    types, rows = ask(site, "SELECT i, 'name ' || i AS name FROM generate_series(1, 300000) i")
    assert (len(rows), rows[-1]) == (300_000, (300_000, "name 300000"))
    assert ask(site, "SELECT i, 'x' AS name FROM generate_series(1, 0) i") == (types, [])


@pytest.mark.parametrize(
    ("query", "connection", "error", "reason"),
    [
        ("SELECT * FROM nope", "shop", ConfigurationError, 'relation "nope" does not exist'),
        ("SELCT 1", "shop", ConfigurationError, "syntax error"),
        ("SELECT 1; SELECT 2", "shop", ConfigurationError, "multiple commands"),
        ("SELECT 1/0", "shop", ConfigurationError, "division by zero"),
        ("SELECT 1/(i-200000) FROM generate_series(1, 300000) i", "shop", MlplatformError, "division by zero"),
        ("CREATE TABLE t ()", "shop", ConfigurationError, "gives no columns; write a SELECT"),
        ("SELECT '1.2.3.4'::inet AS ip", "shop", ConfigurationError, r'type inet.*cast it in the query: "ip"::text'),
        ("SELECT 12345678901234567890::numeric AS n", "shop", ConfigurationError, "column n: too large for a double"),
        ("SELECT 1", "wrong", ServiceRefused, "password authentication failed"),
        ("SELECT 1", "nodb", ServiceRefused, 'database "nodb" does not exist'),
        ("SELECT 1", "down", ServiceUnavailable, "Connection refused"),
    ],
)
def test_mistakes_and_outages(site: Site, query: str, connection: str, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason) as caught:
        ask(site, query, connection)
    assert "s3cr3t" not in str(caught.value)
    assert "t0tally" not in str(caught.value)


def test_nothing_is_written(site: Site, postgres: Login) -> None:
    with adbc_driver_postgresql.dbapi.connect(_uri(postgres)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS a")
        connection.commit()
    ask(site, "WITH gone AS (DELETE FROM kept RETURNING a) SELECT * FROM kept")
    assert ask(site, "SELECT * FROM kept")[1] == [(1,)]


def test_interrupt_stops_the_database(site: Site) -> None:
    with site.bench() as bench:
        threading.Timer(0.5, bench.engine.interrupt).start()
        with pytest.raises(Stopped):
            read_sql(SqlSource(connection="shop", query="SELECT pg_sleep(60)"), bench)


def test_from_table_to_pond(site: Site) -> None:
    source = {
        "sql": {"connection": "shop", "query": "SELECT i AS id, i * 1.5 AS price FROM generate_series(1, 1000) i"}
    }
    checks = {"rows": {"min": 1000, "max": 1000}, "unique": ["id"], "not_null": ["total"]}
    result = site.run(source, "pond://orders.parquet", [{"sql": "SELECT id, price * 2 AS total FROM input"}], checks)
    assert result.rows == 1000
    assert site.rows("pond://orders.parquet", "SELECT sum(total) FROM input") == [(1_501_500.0,)]
