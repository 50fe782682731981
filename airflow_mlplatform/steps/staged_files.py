"""Small operations on files and folders of the staging area, the same on disk and on S3."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_mlplatform.steps import publish_local, publish_s3
from airflow_mlplatform.steps.storage import Location, s3_errors

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["delete", "prune", "read_text", "replace_file", "segment"]

LONGEST = 120


def segment(text: str) -> str:
    """Make a file name of an id, another one for each id."""
    name = quote(text, safe="+:@") if text.strip(".") else text.replace(".", "%2E")
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}~{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def replace_file(place: Location, file: Path) -> None:
    """Put a copy of a file at a place, all at once."""
    publisher = publish_local if place.s3 is None else publish_s3
    publisher.replace_file(place, file)


def read_text(place: Location) -> str | None:
    """Read a small text file; ``None`` if there is none."""
    with s3_errors(place.uri):
        try:
            with place.filesystem.open_input_stream(place.path) as stream:
                return str(stream.read().decode())
        except (FileNotFoundError, NotADirectoryError):
            return None


def delete(place: Location) -> None:
    """Delete a file or a whole folder, if it is there."""
    with s3_errors(place.uri):
        kind = place.filesystem.get_file_info(place.path)
        if kind.is_file:
            place.filesystem.delete_file(place.path)
        elif place.s3 is None:
            shutil.rmtree(place.local, ignore_errors=True)
        else:
            with suppress(FileNotFoundError):
                place.filesystem.delete_dir(place.path)


def prune(file: Path) -> None:
    """Remove the two folders that a file lay in, if nothing else lies there."""
    for folder in (file.parent, file.parent.parent):
        try:
            folder.rmdir()
        except OSError:  # other runs or tasks still have data here
            return
