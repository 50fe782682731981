"""Publishing on disk: everything is written aside, then one rename makes it visible.

A folder is a symbolic link to a hidden folder beside it, which holds one load::

    wine -> .wine.mlplatform-3f0a9c1b2d4e
    .wine.mlplatform-3f0a9c1b2d4e/_manifest.json, part-….parquet, …

Who writes or reads a hidden folder holds a lock on it, which dies with the process; the next load of the same place
removes every one that is neither visible nor held.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.manifest import MANIFEST, Manifest
from airflow_mlplatform.steps.parts import Parts, link_or_copy
from airflow_mlplatform.steps.scratch import claim, holds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlplatform.steps.storage import Location

__all__ = ["replace_file", "replace_folder", "version_of"]

VERSION = re.compile(r"\.(?P<name>.+)\.mlplatform-[0-9a-f]{12}")


def version_of(path: Path) -> Path | None:
    """Return the hidden folder of a load that a real path lies in, if it does."""
    return next((parent for parent in (path, *path.parents) if VERSION.fullmatch(parent.name)), None)


def replace_file(place: Location, source: Path) -> None:
    """Put a copy of a Parquet file at a place.

    :raises ConfigurationError: if a folder lies there.
    """
    target = place.local
    if target.is_dir():
        raise ConfigurationError(
            f"load {place.uri}: is a folder, not a .parquet file; move it away or name another place"
        )
    with _aside(place) as folder:
        link_or_copy(source, folder / "data.parquet")
        _sync(folder / "data.parquet")
        (folder / "data.parquet").replace(target)
        _sync(target.parent)
        shutil.rmtree(folder)
    _sweep(target)


def replace_folder(place: Location, parts: Parts) -> Manifest:
    """Put a load's files at a place, as a folder.

    :raises ConfigurationError: if something lies there that no load made; it stays as it is.
    """
    target = place.local
    _demand_ours(place)
    with _aside(place) as folder:
        manifest = parts.write(folder)
        (folder / MANIFEST).write_text(manifest.to_json())
        for path in (*folder.rglob("*"), folder):
            _sync(path)
        link = folder / ".link"
        link.symlink_to(folder.name)
        _replace_by_link(link, target, place)
        _sync(target.parent)
    _sweep(target)
    return manifest


def _replace_by_link(link: Path, target: Path, place: Location) -> None:
    _demand_ours(place)
    if target.is_dir() and not target.is_symlink():
        target.rmdir()  # empty, or it would not have been demanded to be ours
    link.replace(target)


def _demand_ours(place: Location) -> None:
    target = place.local
    if target.is_symlink():
        ours = VERSION.fullmatch(str(target.readlink()))
        if ours is not None and ours["name"] == target.name:
            return
    elif not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    raise ConfigurationError(
        f"load {place.uri}: something lies there that no load of this package made; nothing was touched; "
        "move it away or name another place"
    )


@contextmanager
def _aside(place: Location) -> Iterator[Path]:
    """Make a hidden folder beside the target and hold it for the block; remove it if the block fails."""
    target = place.local
    target.parent.mkdir(parents=True, exist_ok=True)
    outer = version_of(Path(os.path.realpath(target.parent)))
    if outer is not None:
        raise ConfigurationError(
            f"load {place.uri}: lies inside another load's folder, whose next load would remove it; name another place"
        )
    folder = target.parent / f".{target.name}.mlplatform-{uuid4().hex[:12]}"
    descriptor = claim(folder)
    try:
        yield folder
    except BaseException:
        if not _shows(target, folder):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        os.close(descriptor)


def _sweep(target: Path) -> None:
    for folder in target.parent.glob(f".{glob_escaped(target.name)}.mlplatform-*"):
        match = VERSION.fullmatch(folder.name)
        if match is None or match["name"] != target.name:
            continue
        with holds(folder) as unused:
            # Only now: who swapped the link before has let go of the folder, so the link is not older than the lock.
            if unused and not _shows(target, folder):
                shutil.rmtree(folder, ignore_errors=True)


def _shows(target: Path, folder: Path) -> bool:
    return target.is_symlink() and str(target.readlink()) == folder.name


def glob_escaped(name: str) -> str:
    """Take the meaning from wildcards in a name."""
    return re.sub(r"([*?\[])", r"[\1]", name)


def _sync(path: Path) -> None:
    """Have a file or folder on the disk, before anything says that it is there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
