"""Reading files: from disk, S3 or HTTP(S), pinned first and then read by DuckDB."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.engine import identifier, literal
from airflow_mlplatform.steps.formats import format_of, reading
from airflow_mlplatform.steps.http import Request, download
from airflow_mlplatform.steps.snapshot import Snapshot, take
from airflow_mlplatform.steps.storage import public
from airflow_mlplatform.steps.workbench import Table, Workbench, scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_mlplatform.specs.etl import FilesSource
    from airflow_mlplatform.steps.manifest import Manifest

__all__ = ["read_files"]

ADVICE = "if a type was guessed wrong, give it under columns: {name: TYPE}"


def read_files(source: FilesSource, bench: Workbench) -> Table:
    """Read the files that a URI names; a folder that this package loaded by its manifest.

    :raises ConfigurationError: if there are none, their format is not known, or they are not of that format.
    """
    where = f"source files {public(source.uri)}"
    with bench.engine.explaining(where, ADVICE):
        query = _web(source, bench) if source.uri.lower().startswith(("http://", "https://")) else _disk(source, bench)
        bench.engine.columns(query)
    return Table(query)


def _web(source: FilesSource, bench: Workbench) -> str:
    name = Path(urlsplit(source.uri).path).name or "answer"
    kind = source.format or _kind([name], source)
    target = bench.engine.fresh(name)
    download(Request(source.uri, headers={"accept-encoding": "identity"}), target, bench)
    return reading(bench.engine, [target], kind, source.columns)


def _disk(source: FilesSource, bench: Workbench) -> str:
    snapshot = take(bench.storage.locate(source.uri, source.connection), bench.engine)
    listing = snapshot.listing
    own = listing.manifests.get("")
    if own is not None and set(own.files) == set(listing.files):
        return _own(own, snapshot, source)
    kind = source.format or _kind(listing.files, source)
    return reading(bench.engine, snapshot.files, kind, source.columns, hive=_is_hive(listing.files))


def _own(load: Manifest, snapshot: Snapshot, source: FilesSource) -> str:
    """Read a load of this package: columns in the order and of the types that were loaded."""
    types = {name: kind for name, kind in load.columns if name in load.partition_by}
    hive = f"hive_partitioning = true, hive_types = {literal(types)}" if types else "hive_partitioning = false"
    names = ", ".join(
        f"CAST({identifier(name)} AS {source.columns[name]}) AS {identifier(name)}"
        if name in source.columns
        else identifier(name)
        for name, _ in load.columns
    )
    return f"SELECT {names} FROM {scan([str(file) for file in snapshot.files], hive)}"


def _kind(names: Sequence[str], source: FilesSource) -> str:
    kinds = {format_of(name) for name in names}
    if len(kinds) == 1 and (kind := kinds.pop()):
        return kind
    found = ", ".join(sorted({Path(name).suffix or "no ending" for name in names})[:5])
    raise ConfigurationError(
        f"source files {public(source.uri)}: the format cannot be told from the names ({found}); "
        "add format: csv, parquet or json, or a pattern that matches one format"
    )


def _is_hive(names: Sequence[str]) -> bool:
    """Whether all files lie in folders column=value of the same columns."""
    keys = {tuple(part.partition("=")[0] for part in name.split("/")[:-1] if "=" in part) for name in names}
    return len(keys) == 1 and keys != {()}
