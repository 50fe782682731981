"""SQLite through Python's own driver.

By hand, because SQLite types values and Arrow types columns: the ADBC driver takes the types of the first batch and
breaks where a column begins with nulls, or mixes whole numbers and fractions. Here the types come from all values.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable
from airflow_mlplatform.steps.engine import identifier
from airflow_mlplatform.steps.stream import spool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlplatform.steps.login import Login
    from airflow_mlplatform.steps.workbench import Table, Workbench

__all__ = ["read_sqlite"]

BATCH = 20_000
PASSING = ("locked", "busy", "disk I/O")
WORDS = {"INT": "INTEGER", "CHAR": "TEXT", "CLOB": "TEXT", "TEXT": "TEXT", "BLOB": "BLOB", "REAL": "REAL",
         "FLOA": "REAL", "DOUB": "REAL", "NUMERIC": "REAL", "DECIMAL": "REAL"}  # fmt: skip


def read_sqlite(query: str, login: Login, bench: Workbench) -> Table:
    """Run a query on a database file, opened to read, and keep its result in scratch."""
    import pyarrow as pa

    where = f"source sql (connection {login.id!r})"
    with (
        _explaining(where),
        closing(_connect(login, where)) as connection,
        bench.engine.stoppable(connection.interrupt),
    ):
        # One transaction: the look at the types and the reading see the same rows.
        connection.execute("BEGIN")
        columns = _column_types(connection, query.strip().rstrip(";"))
        arrow = {"INTEGER": pa.int64(), "REAL": pa.float64(), "TEXT": pa.string(), "BLOB": pa.binary()}
        schema = pa.schema([(name, arrow[kind]) for name, kind in columns])
        casts = ", ".join(f"CAST({identifier(name)} AS {kind})" for name, kind in columns)
        cursor = connection.execute(f"SELECT {casts} FROM temp.mlplatform_source")
        return spool(schema, _batches(cursor, schema), bench, where)


def path_of(login: Login, where: str) -> Path:
    """Find the file in a connection: its host, or what its URI has after the third slash.

    :raises ConfigurationError: if it is not an absolute path to a file that exists.
    """
    text = "/".join(filter(None, (login.host, login.schema))) if login.host else f"/{login.schema.lstrip('/')}"
    path = Path(text)
    if not path.is_absolute():
        raise ConfigurationError(f"{where}: {text!r} is no absolute path; write it into the host of the connection")
    if not path.is_file():
        raise ConfigurationError(f"{where}: there is no file {text}; correct the host of the connection")
    return path


def _connect(login: Login, where: str) -> sqlite3.Connection:
    path = path_of(login, where)
    # Batches are fetched by the engine's threads, one at a time.
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro", uri=True, timeout=30, isolation_level=None, check_same_thread=False
    )


@contextmanager
def _explaining(where: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if any(word in str(error) for word in PASSING):
            raise ServiceUnavailable(f"{where}: {error}; a retry may help") from error
        raise ConfigurationError(f"{where}: {error}; correct the query") from error


def _column_types(connection: sqlite3.Connection, query: str) -> list[tuple[str, str]]:
    connection.execute(f"CREATE TEMP VIEW mlplatform_source AS {query}")
    declared = {row[1]: row[2] for row in connection.execute("PRAGMA temp.table_info(mlplatform_source)")}
    kinds = ("integer", "real", "text", "blob")
    counts = ", ".join(f"max(typeof({identifier(name)}) = '{kind}')" for name in declared for kind in kinds)
    row = connection.execute(f"SELECT {counts} FROM temp.mlplatform_source").fetchone()
    found = [{kind for kind, seen in zip(kinds, row[i : i + 4], strict=True) if seen} for i in range(0, len(row), 4)]
    return [(name, _kind(seen, declared[name])) for name, seen in zip(declared, found, strict=True)]


def _kind(seen: set[str], declared: str) -> str:
    """Choose the narrowest type that holds all values; the declared one where there are none to look at."""
    wanted = next((kind for word, kind in WORDS.items() if word in declared.upper()), "")
    if not seen:
        return wanted or "TEXT"
    if seen == {"integer"}:
        return "REAL" if wanted == "REAL" else "INTEGER"
    if seen <= {"integer", "real"}:
        return "REAL"
    return "BLOB" if seen == {"blob"} else "TEXT"


def _batches(cursor: sqlite3.Cursor, schema: Any) -> Iterator[Any]:
    import pyarrow as pa

    while rows := cursor.fetchmany(BATCH):
        arrays = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
