"""What must be true of data before it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb

from airflow_mlplatform.exceptions import CheckFailed
from airflow_mlplatform.steps.engine import Engine, identifier, without_semicolon

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_mlplatform.specs.etl import Checks, RowLimits, SqlCheck
    from airflow_mlplatform.steps.workbench import Table, Workbench

__all__ = ["check"]

EXAMPLES = 3
LONGEST = 80


def check(checks: Checks, table: Table, bench: Workbench) -> None:
    """Run all checks; tell of all that do not hold.

    :param table: the data to be loaded; best a file, since each check reads it.
    :raises CheckFailed: with a line for each check that does not hold.
    """
    failures = list(_failures(checks, table, bench.engine))
    if failures:
        raise CheckFailed(
            f"{len(failures)} check{'s' if len(failures) > 1 else ''} failed, nothing was loaded:\n"
            + "\n".join(f"- {failure}" for failure in failures)
        )


def _failures(checks: Checks, table: Table, engine: Engine) -> Iterator[str]:
    source = f"({table.query})"
    names = {name.lower(): name for name, _ in engine.columns(table.query)}
    if checks.rows is not None:
        yield from _rows(checks.rows, source, engine)
    for wanted, run in ((checks.not_null, _not_null), (checks.unique, _unique)):
        for column in wanted:
            if column.lower() not in names:
                there = ", ".join(names.values())
                yield f"{run.__name__.lstrip('_')} {column}: there is no such column; there: {there}"
            else:
                yield from run(column, source, engine)
    for query in checks.sql:
        yield from _sql(query, source, engine)


def _rows(limits: RowLimits, source: str, engine: Engine) -> Iterator[str]:
    (count,) = engine.rows(f"SELECT count(*) FROM {source}")[0]
    if limits.min is not None and count < limits.min:
        yield f"rows: {count}, at least {limits.min} wanted"
    if limits.max is not None and count > limits.max:
        yield f"rows: {count}, at most {limits.max} wanted"


def _not_null(column: str, source: str, engine: Engine) -> Iterator[str]:
    (count,) = engine.rows(f"SELECT count(*) FROM {source} WHERE {identifier(column)} IS NULL")[0]
    if not count:
        return
    # A null shows nothing; the rows that hold it do.
    rows = engine.rows(f"SELECT * FROM {source} WHERE {identifier(column)} IS NULL LIMIT {EXAMPLES}")
    yield f"not_null {column}: {count} nulls, for example in {_examples(rows)}"


def _unique(column: str, source: str, engine: Engine) -> Iterator[str]:
    # Grouping spills to disk; a set in memory would not.
    repeated = (
        f"SELECT {identifier(column)} AS value, count(*) AS times FROM {source} "
        f"WHERE {identifier(column)} IS NOT NULL GROUP BY ALL HAVING times > 1"
    )
    rows = engine.rows(
        f"SELECT value, times, count(*) OVER (), sum(times) OVER () FROM ({repeated}) ORDER BY times DESC, value "
        f"LIMIT {EXAMPLES}"
    )
    if rows:
        shown = ", ".join(f"{_short(value)} ({times} times)" for value, times, *_ in rows)
        yield f"unique {column}: {rows[0][2]} values stand in {rows[0][3]} rows, for example {shown}"


def _sql(query: SqlCheck, source: str, engine: Engine) -> Iterator[str]:
    try:
        rows = engine.rows(f"WITH input AS {source} SELECT * FROM (\n{without_semicolon(query.query)}\n) LIMIT 2")
    except (duckdb.InterruptException, duckdb.IOException, duckdb.OutOfMemoryException):
        raise
    except duckdb.Error as error:
        yield f"{query.name}: the query does not work: {str(error).strip()}"
        return
    if len(rows) != 1 or len(rows[0]) != 1:
        shape = f"{len(rows[0])} columns" if rows and len(rows[0]) != 1 else "no row" if not rows else "several rows"
        yield f"{query.name}: the query must give one value but gives {shape}"
    elif not _same(rows[0][0], query.expect):
        yield f"{query.name}: gives {_short(rows[0][0])}, expected {_short(query.expect)}"


def _same(value: Any, expected: Any) -> bool:
    return bool(value == expected) or (isinstance(expected, str) and value is not None and str(value) == expected)


def _examples(rows: Sequence[tuple[Any, ...]]) -> str:
    return "; ".join("(" + ", ".join(_short(value) for value in row) + ")" for row in rows)


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
