"""Writing one Parquet file, and the facts about it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.steps.engine import Engine, identifier, literal
from airflow_mlplatform.steps.workbench import Table, Workbench, scan

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Columns", "Facts", "facts_of", "reads_of", "run_of", "schema_hash", "write_parquet"]

Columns = tuple[tuple[str, str], ...]
RUN_KEY = "mlplatform.run"
READS_KEY = "mlplatform.reads"
# A row group is in memory while it is written, and records of a stream may be kilobytes each. DuckDB bounds groups in
# bytes only if it need not keep the order, which records of several partitions do not have.
STREAM_ROW_GROUP = ", ROW_GROUP_SIZE_BYTES '8MB'"


@dataclass(frozen=True)
class Facts:
    """What is known of written data.

    :param rows: number of rows.
    :param bytes: size of the file or files.
    :param columns: names and types (DuckDB's words) in order.
    """

    rows: int
    bytes: int
    columns: Columns

    @property
    def schema_hash(self) -> str:
        """A text that changes when a column is added, dropped, moved, renamed or retyped."""
        return schema_hash(self.columns)


def schema_hash(columns: Columns) -> str:
    """Hash names and types of columns: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:16]


def write_parquet(bench: Workbench, query: str, path: Path) -> Table:
    """Run a query into a new Parquet file (zstd) that knows its run, and what of streams it holds.

    :raises duckdb.Error: what the query raises.
    """
    engine = bench.engine
    engine.go_on()
    notes = {RUN_KEY: bench.run.key}
    if bench.reads:
        notes[READS_KEY] = json.dumps(bench.reads)
    if bench.progress:
        engine.connection.execute("SET preserve_insertion_order = false")
    groups = STREAM_ROW_GROUP if bench.progress else ""
    engine.connection.execute(
        f"COPY ({parquet_safe(engine, query)}) TO {literal(str(path))} "
        f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {literal(notes)}{groups})"
    )
    engine.go_on()
    return Table.of(path)


def parquet_safe(engine: Engine, query: str) -> str:
    """Keep 128-bit sums whole: Parquet has no such integers and DuckDB would round them to doubles."""
    wide = [name for name, kind in engine.columns(query) if kind in ("HUGEINT", "UHUGEINT")]
    if not wide:
        return query
    casts = ", ".join(f"CAST({identifier(name)} AS BIGINT) AS {identifier(name)}" for name in wide)
    return f"SELECT * REPLACE ({casts}) FROM ({query})"


def facts_of(engine: Engine, file: Path) -> Facts:
    """Read the facts about a Parquet file from its footer."""
    (rows,) = engine.rows(f"SELECT num_rows FROM parquet_file_metadata({literal(str(file))})")[0]
    return Facts(rows, file.stat().st_size, engine.columns(f"SELECT * FROM {scan([str(file)])}"))


def run_of(source: Any) -> str | None:
    """Read from a Parquet file's footer which run wrote it.

    :param source: a path, or a file opened by PyArrow.
    :returns: :attr:`Run.key <airflow_mlplatform.steps.workbench.Run.key>`; ``None`` if another program wrote it.
    """
    return _note(source, RUN_KEY)


def reads_of(source: Any) -> dict[str, Any]:
    """Read from a Parquet file's footer what of streams it holds; as :func:`run_of`."""
    return dict(json.loads(_note(source, READS_KEY) or "{}"))


def _note(source: Any, key: str) -> str | None:
    import pyarrow.parquet as pq

    found = (pq.read_metadata(source).metadata or {}).get(key.encode())
    return found.decode() if found is not None else None
