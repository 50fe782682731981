"""Files as they are at one moment, on this machine, however long the reading takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from airflow_mlplatform.exceptions import ServiceUnavailable
from airflow_mlplatform.steps.engine import Engine
from airflow_mlplatform.steps.listing import Listing, find
from airflow_mlplatform.steps.scratch import hold
from airflow_mlplatform.steps.storage import Location, s3_errors

__all__ = ["Snapshot", "take"]

TRIES = 20
CHUNK = 8 * 2**20
DOWNLOADS = 4


class Changed(Exception):
    """The files were replaced while they were being pinned."""


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
    pin = _link if location.s3 is None else _download
    for _ in range(TRIES):
        try:
            listing = find(location)
            folder = engine.fresh("data")
            return Snapshot(listing, _pin_all(listing, folder, engine, pin), folder)
        except (Changed, FileNotFoundError) as error:
            engine.go_on()
            reason = error
    raise ServiceUnavailable(
        f"{location.uri}: was replaced, or lacks files, at each of {TRIES} looks ({reason}); try again, or load it anew"
    )


Pin = Callable[[Location, Path, Engine], None]


def _pin_all(listing: Listing, folder: Path, engine: Engine, pin: Pin) -> tuple[Path, ...]:
    targets = tuple(folder / name for name in listing.files)
    for parent in {target.parent for target in targets}:
        parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        jobs = [
            pool.submit(pin, listing.base / name, target, engine)
            for name, target in zip(listing.files, targets, strict=True)
        ]
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
