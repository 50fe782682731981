"""The orders example on a database, and what happens when a spec or a database is wrong."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from tests.airflow.conftest import Platform

ORDERS = Path(__file__).parents[2] / "dag_specs" / "orders"
COUNTRIES = ("FR", "IT", "c/o = 100%")


@pytest.fixture(scope="module", autouse=True)
def shop(platform: Platform) -> Path:
    """A shop's database with orders of the last days, its connection, and the example specs."""
    file = platform.stack.folder / "shop.db"
    today = datetime.now(UTC).date()
    with sqlite3.connect(file) as database:
        database.execute("create table customers (id integer, country text)")
        database.execute("create table orders (id integer, customer integer, day text, quantity integer, price real)")
        database.executemany("insert into customers values (?, ?)", enumerate(COUNTRIES))
        days = [(today - timedelta(days=back)).isoformat() for back in range(5)]
        rows = [(number, number % 3, days[number % 5], number % 20, 1.5) for number in range(1000)]
        database.executemany("insert into orders values (?, ?, ?, ?, ?)", rows)
    database.close()
    platform.api.post("/connections", {"connection_id": "shop", "conn_type": "sqlite", "host": str(file)})
    shutil.copytree(ORDERS, platform.stack.specs / "orders")
    return file


def test_orders_come_from_the_database_into_a_partitioned_pond(platform: Platform) -> None:
    run = platform.run_number("orders-etl", 1)
    assert run.state == "success", platform.explain(run)
    loaded = platform.api.xcom(run, "load")
    assert loaded["rows"] == 200
    found = duckdb.sql(f"""
        select country, count(*), sum(total), count(distinct basket)
        from read_parquet('{loaded["uri"]}/**/*.parquet', hive_partitioning = true) group by country order by country
    """).fetchall()
    assert [row[0] for row in found] == sorted(COUNTRIES)
    assert sum(row[1] for row in found) == 200


def test_a_mistake_fails_at_once_and_an_error_says_what_to_do(platform: Platform) -> None:
    platform.write_spec(
        "wrong.yaml",
        "apiVersion: mlplatform/v1\nkind: etl\nname: wrong-table\nschedule: '@once'\nstages: fused\n"
        "retries: {count: 3, delay: 1h}\n"
        "extract: {sql: {connection: shop, query: select * from order_lines}}\nload: {uri: pond://wrong.parquet}\n",
    )
    run = platform.run_number("wrong-table", 1)
    assert run.state == "failed"
    assert "order_lines" in platform.api.log(run, "etl")
    assert not (platform.stack.pond / "wrong.parquet").exists()
