"""Reading files: from disk, S3 or HTTP(S), pinned first and then read by DuckDB."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.engine import identifier, literal
from airflow_mlplatform.steps.formats import format_of, reading
from airflow_mlplatform.steps.http import Request, download
from airflow_mlplatform.steps.snapshot import take
from airflow_mlplatform.steps.storage import public
from airflow_mlplatform.steps.workbench import Table, Workbench, scan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_mlplatform.specs.etl import FilesSource
    from airflow_mlplatform.steps.engine import Engine
    from airflow_mlplatform.steps.listing import Listing
    from airflow_mlplatform.steps.parquet import Columns

__all__ = ["ADVICE", "Layout", "layout_of", "read_files", "select"]

ADVICE = "if a type was guessed wrong, give it under columns: {name: TYPE}"


@dataclass(frozen=True)
class Layout:
    """How files are read.

    :param kind: ``csv``, ``parquet`` or ``json``.
    :param hive: whether folders named column=value are columns.
    :param types: types of those columns; guessed if left out.
    :param loaded: all columns, in order, if the files are a load of this package.
    """

    kind: str
    hive: bool = False
    types: Mapping[str, str] = field(default_factory=dict)
    loaded: Columns = ()

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Layout:
        """Read it from JSON."""
        return cls(raw["kind"], raw["hive"], raw["types"], tuple((name, kind) for name, kind in raw["loaded"]))

    def typed(self, types: Mapping[str, str]) -> Layout:
        """Return the same with types for the columns that are folders."""
        return replace(self, types=dict(types))


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
    return select(layout_of(snapshot.listing, source), snapshot.files, source, bench.engine)


def layout_of(listing: Listing, source: FilesSource) -> Layout:
    """Tell how listed files are read.

    :raises ConfigurationError: if their format cannot be told.
    """
    own = listing.manifests.get("")
    if own is not None and set(own.files) == set(listing.files):
        types = {name: kind for name, kind in own.columns if name in own.partition_by}
        return Layout("parquet", bool(types), types, own.columns)
    return Layout(source.format or _kind(listing.files, source), _is_hive(listing.files))


def select(layout: Layout, files: Sequence[Path], source: FilesSource, engine: Engine) -> str:
    """Write the SELECT that reads pinned files."""
    if layout.loaded:
        return _own(layout, files, source)
    return reading(engine, files, layout.kind, source.columns, hive=layout.hive, hive_types=layout.types)


def _own(layout: Layout, files: Sequence[Path], source: FilesSource) -> str:
    """Read a load of this package: columns in the order and of the types that were loaded."""
    hive = f"hive_partitioning = true, hive_types = {literal(dict(layout.types))}"
    names = ", ".join(
        f"CAST({identifier(name)} AS {source.columns[name]}) AS {identifier(name)}"
        if name in source.columns
        else identifier(name)
        for name, _ in layout.loaded
    )
    options = hive if layout.hive else "hive_partitioning = false"
    return f"SELECT {names} FROM {scan([str(file) for file in files], options)}"


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
