"""A load replaces exactly what lies at its URI, all at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps import publish_local, publish_s3
from airflow_mlplatform.steps.listing import read_manifest
from airflow_mlplatform.steps.parquet import Facts, facts_of, reads_of, run_of, schema_hash, write_parquet
from airflow_mlplatform.steps.parts import OneFile, PartByPart, Partitioned, Parts
from airflow_mlplatform.steps.snapshot import take
from airflow_mlplatform.steps.staged_parts import StagedParts
from airflow_mlplatform.steps.storage import s3_errors
from airflow_mlplatform.steps.workbench import Table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_mlplatform.specs.etl import Load
    from airflow_mlplatform.steps.manifest import Manifest
    from airflow_mlplatform.steps.storage import Location
    from airflow_mlplatform.steps.workbench import Workbench

__all__ = ["Held", "LoadResult", "held", "publish", "published"]


@dataclass(frozen=True)
class LoadResult:
    """What was published.

    :param uri: where it lies, ``pond://`` resolved.
    :param rows: number of rows.
    :param bytes: size of the data files.
    :param schema_hash: changes with names, order and types of the columns.
    """

    uri: str
    rows: int
    bytes: int
    schema_hash: str

    def to_dict(self) -> dict[str, Any]:
        """What goes into XCom and the event of the asset."""
        return asdict(self)


def publish(load: Load, data: Table | StagedParts, bench: Workbench) -> LoadResult:
    """Write data where it goes. Readers see what was there before or all that is there now.

    :param data: the data, checked.
    :raises ConfigurationError: if something else lies there, or it cannot be partitioned so.
    :raises ServiceUnavailable: if S3 does not answer.
    """
    place = _place(load, bench)
    publisher = publish_local if place.s3 is None else publish_s3
    with bench.engine.explaining(f"load {load.uri}"):
        if _is_file(load):
            file = _noted(_whole(data, bench), bench)
            publisher.replace_file(place, file)
            return _result(place, facts_of(bench.engine, file))
        manifest = publisher.replace_folder(place, _parts(load, data, bench))
    return _of_manifest(place, manifest)


@dataclass(frozen=True)
class Held:
    """What lies at the place of a load.

    :param run: key of the run that made it.
    :param reads: what of streams it holds: topic → range.
    """

    run: str
    reads: Mapping[str, Any] = field(default_factory=dict)


def held(load: Load, bench: Workbench) -> Held | None:
    """Tell what lies at the place of a load; ``None`` if nothing does, or nothing of this package."""
    import pyarrow as pa

    place = _place(load, bench)
    try:
        if not _is_file(load):
            manifest = read_manifest(place)
            return Held(manifest.run, manifest.reads)
        with s3_errors(place.uri), place.filesystem.open_input_file(place.path) as file:
            run = run_of(file)
            return None if run is None else Held(run, reads_of(file))
    except (FileNotFoundError, NotADirectoryError, ConfigurationError, pa.ArrowInvalid):
        return None


def _whole(data: Table | StagedParts, bench: Workbench) -> Path:
    table = data.table() if isinstance(data, StagedParts) else data
    file = table.file or write_parquet(bench, table.query, bench.engine.fresh("load.parquet")).file
    assert file is not None
    return file


def _noted(file: Path, bench: Workbench) -> Path:
    """Return a file whose footer tells what of streams it holds, as that of a folder's load is told by its manifest."""
    if not bench.reads or reads_of(file) == bench.reads:
        return file
    written = write_parquet(bench, Table.of(file).query, bench.engine.fresh("load.parquet")).file
    assert written is not None
    return written


def _parts(load: Load, data: Table | StagedParts, bench: Workbench) -> Parts:
    name = uuid4().hex[:12]
    if isinstance(data, StagedParts):
        if load.partition_by and data.facts.rows:
            return Partitioned(bench, data.facts, load.partition_by, name, data.table().query)
        return PartByPart(bench, data.facts, load.partition_by, name, data)
    file = _whole(data, bench)
    facts = facts_of(bench.engine, file)
    if load.partition_by and facts.rows:
        return Partitioned(bench, facts, load.partition_by, name, Table.of(file).query)
    return OneFile(bench, facts, load.partition_by, name, file)


def published(load: Load, bench: Workbench) -> LoadResult | None:
    """Tell what this run has already published there; ``None`` if what lies there is of another run, or nothing."""
    place = _place(load, bench)
    try:
        if not _is_file(load):
            manifest = read_manifest(place)
            return _of_manifest(place, manifest) if manifest.run == bench.run.key else None
        (file,) = take(place, bench.engine).files
        return _result(place, facts_of(bench.engine, file)) if run_of(file) == bench.run.key else None
    except (FileNotFoundError, NotADirectoryError, ConfigurationError):
        return None


def _place(load: Load, bench: Workbench) -> Location:
    if "://" not in load.uri and not load.uri.startswith("/"):
        raise ConfigurationError(
            f"load {load.uri}: a relative path means another place in each worker; write pond://…, s3://… or an "
            "absolute path"
        )
    return bench.storage.locate(load.uri, load.connection)


def _is_file(load: Load) -> bool:
    return load.uri.endswith(".parquet")


def _result(place: Location, facts: Facts) -> LoadResult:
    return LoadResult(place.uri, facts.rows, facts.bytes, facts.schema_hash)


def _of_manifest(place: Location, manifest: Manifest) -> LoadResult:
    return LoadResult(place.uri, manifest.rows, manifest.bytes, schema_hash(manifest.columns))
