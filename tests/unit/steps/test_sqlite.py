from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.etl import SqlSource
from airflow_mlplatform.steps.database import read_sql
from airflow_mlplatform.steps.login import Login
from tests.services.etl_parts import Site

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    file = tmp_path / "my shop.db"
    with sqlite3.connect(file) as database:
        database.execute(
            "CREATE TABLE t (id INTEGER, price NUMERIC(10, 2), late TEXT, mixed, raw BLOB, none REAL, big INT)"
        )
        database.executemany(
            "INSERT INTO t VALUES (?, ?, ?, ?, ?, NULL, ?)",
            [(n, n, None if n < 50_000 else "x", n if n % 2 else n + 0.5, b"\x00\xff", 2**62) for n in range(60_000)],
        )
    database.close()
    return Site(tmp_path, {
        "shop": Login("shop", "sqlite", str(file)),
        "uri": Login("uri", "sqlite", schema=str(file).lstrip("/")),
        "gone": Login("gone", "sqlite", "/gone.db"),
        "mysql": Login("mysql", "mysql", "host"),
    })  # fmt: skip


def ask(site: Site, query: str, connection: str = "shop") -> tuple[dict[str, str], list[tuple[Any, ...]]]:
    with site.bench() as bench:
        table = read_sql(SqlSource(connection=connection, query=query), bench)
        return dict(bench.engine.columns(table.query)), bench.engine.rows(f"{table.query} LIMIT 5")


def test_types_come_from_all_values(site: Site) -> None:
    types, rows = ask(site, "SELECT *, id * 0.5 AS half FROM t;")
    assert types == {
        "id": "BIGINT", "price": "DOUBLE", "late": "VARCHAR", "mixed": "DOUBLE", "raw": "BLOB", "none": "DOUBLE",
        "big": "BIGINT", "half": "DOUBLE",
    }  # fmt: skip
    assert rows[1] == (1, 1.0, None, 1.0, b"\x00\xff", None, 2**62, 0.5)


def test_nothing_found_keeps_declared_types(site: Site) -> None:
    types, rows = ask(site, "SELECT id, price, late, raw, id + 1 AS x FROM t WHERE false")
    assert (list(types.values()), rows) == (["BIGINT", "DOUBLE", "VARCHAR", "BLOB", "VARCHAR"], [])


def test_a_path_out_of_a_connection_uri(site: Site) -> None:
    assert ask(site, "SELECT count(*) AS n FROM t", "uri")[1] == [(60_000,)]


@pytest.mark.parametrize(
    ("query", "connection", "reason"),
    [
        ("SELECT * FROM nope", "shop", r"source sql \(connection 'shop'\): no such table: nope"),
        ("SELCT", "shop", "syntax error"),
        ("DELETE FROM t", "shop", "syntax error"),
        ("SELECT 1", "gone", "there is no file /gone.db; correct the host"),
        ("SELECT 1", "mysql", "is of type 'mysql'; source sql reads PostgreSQL .* and SQLite"),
    ],
)
def test_mistakes(site: Site, query: str, connection: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        ask(site, query, connection)
