"""File formats: told by the name or the first bytes, read by DuckDB."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.engine import Engine, identifier, literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["format_of", "reading"]

ENDINGS = {
    ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet", ".json": "json", ".jsonl": "json",
    ".ndjson": "json",
}  # fmt: skip
COMPRESSED = (".gz", ".zst")
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}
PLAIN = "uncompressed"


def format_of(name: str) -> str | None:
    """Tell the format (``csv``, ``parquet``, ``json``) by a file name; ``None`` if it has none of the known endings."""
    path = PurePosixPath(name.lower())
    suffix = PurePosixPath(path.stem).suffix if path.suffix in COMPRESSED else path.suffix
    return ENDINGS.get(suffix)


def reading(
    engine: Engine,
    files: Sequence[Path],
    kind: str,
    columns: Mapping[str, str],
    *,
    hive: bool = False,
    hive_types: Mapping[str, str] | None = None,
) -> str:
    """Write the SELECT that reads files of one format.

    :param files: files on this machine; columns are matched by name, what a file lacks is null.
    :param kind: ``csv``, ``parquet`` or ``json``.
    :param columns: types (DuckDB's words) of columns that are not to be guessed.
    :param hive: whether folders named column=value are columns.
    :param hive_types: their types; guessed if left out.
    """
    options = [f"hive_partitioning = {literal(hive)}"]
    if hive and hive_types:
        options.append(f"hive_types = {literal(dict(hive_types))}")
    if len(files) > 1:
        options.append("union_by_name = true")
    names = literal([str(file) for file in files])
    if kind == "parquet":
        return _cast(f"SELECT * FROM read_parquet({names}, {', '.join(options)})", columns)
    options.append(f"compression = {literal(_compression(files))}")
    if kind == "csv":
        if columns:
            options.append(f"types = {literal(dict(columns))}")
        return f"SELECT * FROM read_csv({names}, {', '.join(options)})"
    query = f"SELECT * FROM read_json({names}, {', '.join(options)})"
    if columns:
        guessed = {**dict(engine.columns(query)), **columns}
        query = f"SELECT * FROM read_json({names}, {', '.join(options)}, columns = {literal(guessed)})"
    return query


def _cast(query: str, columns: Mapping[str, str]) -> str:
    if not columns:
        return query
    casts = ", ".join(f"CAST({identifier(name)} AS {kind}) AS {identifier(name)}" for name, kind in columns.items())
    return f"SELECT * REPLACE ({casts}) FROM ({query})"


def _compression(files: Sequence[Path]) -> str:
    """Look at the bytes: servers and people are careless with endings."""
    found = set()
    for file in files:
        with file.open("rb") as stream:
            found.add(MAGIC.get(stream.read(2), PLAIN))
    if len(found) > 1:
        raise ConfigurationError(
            f"{files[0]} and {len(files) - 1} more: some are compressed ({', '.join(sorted(found - {PLAIN}))}), "
            "others differently or not; read them as several sources"
        )
    return found.pop()
