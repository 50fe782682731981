"""Publishing on S3: one object appears when its upload completes; a folder when its manifest does.

S3 cannot swap folders. Each load has its own file names; ``_manifest.json`` lists those that count, and replacing it is
the moment of the change; then the files of the former load go. A reader that follows the manifest always sees one
load. A foreign one, which lists the folder, sees both loads' files from the first upload to the last deletion.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable
from airflow_mlplatform.steps.listing import read_manifest
from airflow_mlplatform.steps.manifest import MANIFEST, Manifest
from airflow_mlplatform.steps.parts import PART, Parts
from airflow_mlplatform.steps.storage import Location, s3_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["replace_file", "replace_folder"]

UPLOADS = 4
ABANDONED = timedelta(days=1)
REPAIRS = 5


def replace_file(place: Location, source: Path) -> None:
    """Upload a file; the object changes when the upload is complete."""
    from pyarrow import fs

    with s3_errors(place.uri):
        # One call: an exception between two writes would close the stream, which completes half an upload.
        fs.copy_files(
            str(source),
            place.path,
            source_filesystem=fs.LocalFileSystem(),
            destination_filesystem=place.filesystem,
            use_threads=False,
        )


def replace_folder(place: Location, parts: Parts) -> Manifest:
    """Upload a load's files and make them count.

    :raises ConfigurationError: if files lie there that no load made; they stay as they are.
    """
    _demand_ours(place)
    folder = parts.bench.engine.fresh("load")
    folder.mkdir()

    def away(names: Sequence[str]) -> None:
        _upload(place, folder, names, parts)
        parts.drop(folder, names)

    manifest = parts.write(folder, away)
    manifest = replace(manifest, superseded=_superseded(place))
    (folder / MANIFEST).write_text(manifest.to_json())
    replace_file(place / MANIFEST, folder / MANIFEST)
    _repair(place, folder, manifest, parts)
    _sweep(place, manifest, parts)
    return manifest


def _upload(place: Location, folder: Path, names: Iterable[str], parts: Parts) -> None:
    def one(name: str) -> None:
        parts.bench.engine.go_on()
        replace_file(place / name, folder / name)

    place.filesystem  # noqa: B018 - opened before the threads ask for it
    with ThreadPoolExecutor(UPLOADS) as pool:
        list(pool.map(one, names))


def _objects(place: Location) -> dict[str, Any]:
    from pyarrow import fs

    with s3_errors(place.uri):
        found = place.filesystem.get_file_info(fs.FileSelector(place.path, recursive=True, allow_not_found=True))
    return {info.path[len(place.path) + 1 :]: info for info in found if info.is_file and info.size}


def _manifest(place: Location) -> Manifest | None:
    try:
        return read_manifest(place)
    except FileNotFoundError:
        return None


def _demand_ours(place: Location) -> None:
    names = list(_objects(place))
    nested = [name for name in names if name.endswith(f"/{MANIFEST}")]
    if nested:
        raise ConfigurationError(f"load {place.uri}: other loads lie below it ({nested[0]}); name another place")
    foreign = [name for name in names if name != MANIFEST and not PART.fullmatch(name.rpartition("/")[2])]
    if foreign and MANIFEST not in names:
        raise ConfigurationError(
            f"load {place.uri}: files lie there that no load of this package made ({foreign[0]}); nothing was touched; "
            "move them away or name another place"
        )


def _repair(place: Location, folder: Path, manifest: Manifest, parts: Parts) -> None:
    """Put files back that another try of the same run took for leftovers of a dead one."""
    for _ in range(REPAIRS):
        current = _manifest(place)
        missing = set(manifest.files) - set(_objects(place))
        if not missing or current is None or current.load != manifest.load:
            return
        for name in sorted(missing):
            parts.again(folder, [name])
            _upload(place, folder, [name], parts)
            parts.drop(folder, [name])
    raise ServiceUnavailable(f"load {place.uri}: another try of this run keeps removing its files; a retry may help")


def _superseded(place: Location) -> tuple[str, ...]:
    """List what the load before left, and what it had no time to delete itself."""
    former = _manifest(place)
    there = _objects(place)
    return tuple(name for name in (*former.files, *former.superseded) if name in there) if former else ()


def _sweep(place: Location, manifest: Manifest, parts: Parts) -> None:
    """Remove the former load, own former tries that died, and what others abandoned long ago."""
    now = datetime.now(UTC)
    current = _manifest(place)
    if current is None:
        return
    with s3_errors(place.uri):
        for name, info in _objects(place).items():
            match = PART.fullmatch(name.rpartition("/")[2])
            if match is None or name in current.files:
                continue
            ours = match["run"] == parts.run_mark and (current.load == parts.load or match["load"] == parts.load)
            if name in manifest.superseded or ours or now - info.mtime > ABANDONED:
                with suppress(FileNotFoundError):  # another load was faster
                    place.filesystem.delete_file(f"{place.path}/{name}")
