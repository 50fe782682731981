"""Files as they are at one moment, on this machine, however long the reading takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from airflow_mlplatform.exceptions import ServiceUnavailable
from airflow_mlplatform.steps.engine import Engine
from airflow_mlplatform.steps.listing import Listing, find
from airflow_mlplatform.steps.scratch import hold
from airflow_mlplatform.steps.storage import Location, s3_errors

__all__ = ["Changed", "File", "Snapshot", "fetch", "files_of", "pin", "settled", "take"]

T = TypeVar("T")

TRIES = 20
CHUNK = 8 * 2**20
DOWNLOADS = 4


class Changed(Exception):
    """The files were replaced while they were being pinned, or since they were listed."""


@dataclass(frozen=True)
class File:
    """A file as it was when it was listed.

    :param name: path below the folder of the listing.
    :param size: in bytes.
    :param modified: time of its last change, in nanoseconds since 1970.
    """

    name: str
    size: int
    modified: int


@dataclass(frozen=True)
class Snapshot:
    """Pinned files.

    :param listing: what they are there.
    :param files: where they are here, in the same order; paths below ``folder`` are those of the listing.
    :param folder: a folder in scratch.
    """

    listing: Listing
    files: tuple[Path, ...]
    folder: Path


def take(location: Location, engine: Engine) -> Snapshot:
    """Pin the files that a location names: local ones by links, those on S3 by a copy in scratch.

    :raises ConfigurationError: if there are none.
    :raises ServiceUnavailable: if they never stand still.
    """

    def pinned(listing: Listing) -> Snapshot:
        folder = engine.fresh("data")
        return Snapshot(listing, _pin_all(listing.base, listing.files, folder, engine, _pin_of(listing.base)), folder)

    return settled(location, engine, pinned)


def settled(location: Location, engine: Engine, use: Callable[[Listing], T]) -> T:
    """List the files that a location names and use the list; start over if they are replaced meanwhile.

    :raises ConfigurationError: if there are none.
    :raises ServiceUnavailable: if they never stand still.
    """
    for _ in range(TRIES):
        try:
            return use(find(location))
        except (Changed, FileNotFoundError) as error:
            engine.go_on()
            reason = error
    raise ServiceUnavailable(
        f"{location.uri}: was replaced, or lacks files, at each of {TRIES} looks ({reason}); try again, or load it anew"
    )


def files_of(listing: Listing) -> list[File]:
    """Tell size and age of listed files.

    :raises FileNotFoundError: if one of them has gone.
    """
    if listing.base.s3 is None or len(listing.files) == 1:
        return [_file(listing.base / name, name) for name in listing.files]
    from pyarrow import fs

    deep = any("/" in name for name in listing.files)
    with s3_errors(listing.base.uri):
        # One request for a thousand objects, instead of one each.
        found = listing.base.filesystem.get_file_info(fs.FileSelector(listing.base.path, recursive=deep))
    infos = {info.path[len(listing.base.path) + 1 :]: info for info in found}
    gone = next((name for name in listing.files if name not in infos), None)
    if gone is not None:
        raise FileNotFoundError(f"{listing.base.uri}/{gone}")
    return [File(name, infos[name].size, infos[name].mtime_ns) for name in listing.files]


def _file(place: Location, name: str, pinned: Path | None = None) -> File:
    if place.s3 is None:
        stat = (pinned or place.local).stat()
        return File(name, stat.st_size, stat.st_mtime_ns)
    with s3_errors(place.uri):
        info = place.filesystem.get_file_info(place.path)
    if not info.is_file:
        raise FileNotFoundError(place.uri)
    return File(name, info.size, info.mtime_ns)


def pin(base: Location, files: Sequence[File], engine: Engine) -> tuple[Path, ...]:
    """Pin files that were listed before.

    :returns: where they are here, in the same order, with the same names below one folder.
    :raises Changed: if one is another by now; its text is the URI.
    :raises FileNotFoundError: if one has gone.
    """
    listed = {(base / file.name).path: file for file in files}
    unchecked = _pin_of(base)

    def checked(source: Location, target: Path, engine: Engine) -> None:
        unchecked(source, target, engine)
        file = listed[source.path]
        # Looked at afterwards: nothing can have changed before and changed back to this age.
        if _file(source, file.name, target) != file:
            raise Changed(source.uri)

    return _pin_all(base, [file.name for file in files], engine.fresh("data"), engine, checked)


Pin = Callable[[Location, Path, Engine], None]


def fetch(base: Location, names: Sequence[str], engine: Engine) -> tuple[Path, ...]:
    """Pin files that never change once they are there.

    :raises FileNotFoundError: if one is not there.
    """
    return _pin_all(base, names, engine.fresh("data"), engine, _pin_of(base))


def _pin_of(base: Location) -> Pin:
    return _link if base.s3 is None else _download


def _pin_all(base: Location, names: Sequence[str], folder: Path, engine: Engine, pin: Pin) -> tuple[Path, ...]:
    targets = tuple(folder / name for name in names)
    for parent in {target.parent for target in targets}:
        parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        jobs = [pool.submit(pin, base / name, target, engine) for name, target in zip(names, targets, strict=True)]
        for job in jobs:
            job.result()
    return targets


def _link(source: Location, target: Path, engine: Engine) -> None:
    real = Path(os.path.realpath(source.path))
    try:
        target.hardlink_to(real)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or not our file: the version's folder must stay while we read
        _hold_version(real, engine)
        target.symlink_to(real)


def _hold_version(real: Path, engine: Engine) -> None:
    from airflow_mlplatform.steps.publish_local import version_of

    version = version_of(real)
    if version is None:
        return
    descriptor = hold(version, shared=True)
    if descriptor is None:
        raise Changed
    engine.keep(lambda: os.close(descriptor))


def _download(source: Location, target: Path, engine: Engine) -> None:
    with s3_errors(source.uri):
        before = _tag(source)
        with source.filesystem.open_input_stream(source.path) as stream, target.open("wb") as file:
            while chunk := stream.read(CHUNK):
                engine.go_on()
                file.write(chunk)
        # The copy is made of several requests; only an unchanged tag says that they saw the same object.
        if _tag(source) != before:
            raise Changed


def _tag(source: Location) -> bytes:
    with source.filesystem.open_input_stream(source.path) as stream:
        tag: bytes = stream.metadata()["ETag"]
        return tag
