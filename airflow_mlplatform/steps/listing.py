"""Which files a URI names: one file, a folder, or a pattern, the same on disk and on S3."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.manifest import MANIFEST, Manifest
from airflow_mlplatform.steps.storage import Location, s3_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Listing", "find"]

REREADS = 5
WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Listing:
    """What a URI names.

    :param base: folder that all files lie in.
    :param files: their paths below ``base``, sorted.
    :param manifests: folder below ``base`` (``""``: itself) → the load that it holds.
    """

    base: Location
    files: tuple[str, ...]
    manifests: dict[str, Manifest]


def find(location: Location) -> Listing:
    """List the files that a location names; loads of this package by their manifests.

    :raises ConfigurationError: if there are none.
    :raises FileNotFoundError: if files went while they were being listed.
    """
    base, pattern = _split(location)
    if not pattern:
        return _one(location) or _folder(location)
    deep = "/" in pattern or "**" in pattern
    names = _names(base, deep=deep)
    matches = re.compile(_regex(pattern)).fullmatch
    manifests = _manifests(base, names, deep=deep)
    kept = [name for name in names if matches(name) and not name.endswith(MANIFEST)]
    return _nonempty(Listing(base, _visible(kept, manifests), manifests), location)


def _split(location: Location) -> tuple[Location, str]:
    """Split at the first segment with a wildcard; a file may really be called so."""
    if not WILD.search(location.path) or (location.s3 is None and os.path.lexists(location.path)):
        return location, ""
    parts = location.path.split("/")
    first = next(index for index, part in enumerate(parts) if WILD.search(part))
    path = "/".join(parts[:first])
    return Location(location.uri[: len(location.uri) - len(location.path)] + path, path, location.s3), "/".join(
        parts[first:]
    )


def _one(location: Location) -> Listing | None:
    folder, _, name = location.path.rpartition("/")
    if location.s3 is None:
        found = location.local.is_file()
    else:
        with s3_errors(location.uri):
            found = bool(folder) and location.filesystem.get_file_info(location.path).is_file
    if not found:
        return None
    return Listing(Location(location.uri.rpartition("/")[0], folder, location.s3), (name,), {})


def _folder(location: Location) -> Listing:
    names = _names(location, deep=True)
    manifests = _manifests(location, names, deep=True)
    data = [name for name in names if not any(part.startswith(("_", ".")) for part in name.split("/"))]
    return _nonempty(Listing(location, _visible(data, manifests), manifests), location)


def _nonempty(listing: Listing, location: Location) -> Listing:
    if not listing.files:
        raise ConfigurationError(
            f"{location.uri}: no file matches; check the pattern and whether what should write there has run"
        )
    return listing


def _names(base: Location, *, deep: bool) -> list[str]:
    if base.s3 is None:
        return list(_walk_disk(base.path or "/", deep=deep))
    return _within_load(base, list(_walk_s3(base, deep=deep)))


def _within_load(base: Location, names: list[str]) -> list[str]:
    """Keep what counts, where ``base`` lies inside the folder of a load (on disk the link already sees to that)."""
    parts = base.path.split("/")
    above = [Location("", "/".join(parts[:depth]), base.s3) / MANIFEST for depth in range(1, len(parts))]
    if not above:
        return names
    with s3_errors(base.uri):
        found = base.filesystem.get_file_info([place.path for place in above])
    for info in found:
        if info.is_file:
            folder = info.path.removesuffix(f"/{MANIFEST}")
            load = read_manifest(Location(f"s3://{folder}", folder, base.s3))
            loaded = {f"{folder}/{file}" for file in load.files}
            names = [name for name in names if f"{base.path}/{name}" in loaded]
    return names


def _walk_disk(base: str, *, deep: bool) -> Iterator[str]:
    seen: set[str] = set()
    for folder, folders, files in os.walk(base, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a symbolic link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if deep and not name.startswith("."))
        relative = os.path.relpath(folder, base)
        yield from (name if relative == "." else f"{relative}/{name}" for name in sorted(files))


def _walk_s3(base: Location, *, deep: bool) -> Iterator[str]:
    from pyarrow import fs

    with s3_errors(base.uri):
        found = base.filesystem.get_file_info(fs.FileSelector(base.path, recursive=deep, allow_not_found=True))
    yield from sorted(info.path[len(base.path) + 1 :] for info in found if info.is_file)


def _manifests(base: Location, names: Sequence[str], *, deep: bool) -> dict[str, Manifest]:
    folders = [name[: -len(MANIFEST)].rstrip("/") for name in names if name.rpartition("/")[2] == MANIFEST]
    manifests = {folder: read_manifest(base / folder if folder else base) for folder in folders}
    there = set(names)
    for folder, load in manifests.items():
        missing = [file for file in load.files if f"{folder}/{file}".lstrip("/") not in there]
        # A load that came between the look at the names and the look at the manifest; the caller looks again.
        if any(deep or "/" not in file for file in missing):
            raise FileNotFoundError(f"{base.uri}/{folder}: {missing[0]} is in the manifest but not there")
    return manifests


def read_manifest(folder: Location) -> Manifest:
    """Read the manifest of a folder.

    :raises FileNotFoundError: if it has none.
    """
    place = folder / MANIFEST
    for _ in range(REREADS):
        # PyArrow asks S3 for the size first; of an object that is replaced in between it reads the wrong bytes.
        with suppress(ConfigurationError):
            return _read_once(place)
    return _read_once(place)


def _read_once(place: Location) -> Manifest:
    with s3_errors(place.uri), place.filesystem.open_input_stream(place.path) as stream:
        return Manifest.from_json(stream.read(), place.uri)


def _visible(names: Sequence[str], manifests: dict[str, Manifest]) -> tuple[str, ...]:
    """Drop what lies in the folder of a load but does not belong to it."""
    loaded = {f"{folder}/{file}".lstrip("/") for folder, load in manifests.items() for file in load.files}
    prefixes = tuple(f"{folder}/" if folder else "" for folder in manifests)
    return tuple(name for name in names if name in loaded or not prefixes or not name.startswith(prefixes))


def _regex(pattern: str) -> str:
    """Translate a pattern: ``*`` and ``?`` stay within a folder and skip hidden files, ``**`` is any folders."""
    parts = pattern.split("/")
    last = len(parts) - 1
    visible = r"(?!\.)"
    text = ""
    for index, part in enumerate(parts):
        if part == "**":
            text += rf"(?:{visible}[^/]+/)*" + (rf"{visible}[^/]+" if index == last else "")
            continue
        text += (visible if WILD.match(part) else "") + _segment(part) + ("" if index == last else "/")
    return text


def _segment(part: str) -> str:
    """Translate the wildcards of one segment."""
    return "".join(_piece(piece) for piece in re.findall(r"\[!?\]?[^\]]*\]|.", part))


def _piece(piece: str) -> str:
    if piece in ("*", "?"):
        return "[^/]*" if piece == "*" else "[^/]"
    if len(piece) > 1:
        body = piece[1:-1].replace("\\", r"\\")
        return f"[^{body[1:]}]" if body.startswith("!") else f"[{body}]"
    return re.escape(piece)
