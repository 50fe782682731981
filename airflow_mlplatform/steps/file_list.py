"""Which files each of several tasks reads: listed once, so that a retry of one of them reads the same ones."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.balance import balanced
from airflow_mlplatform.steps.files import ADVICE, Layout, layout_of, select
from airflow_mlplatform.steps.hive import hive_types
from airflow_mlplatform.steps.snapshot import Changed, File, files_of, pin, settled
from airflow_mlplatform.steps.storage import public
from airflow_mlplatform.steps.workbench import Table, Workbench

if TYPE_CHECKING:
    from airflow_mlplatform.specs.etl import FilesSource
    from airflow_mlplatform.steps.listing import Listing

__all__ = ["FileList", "Part", "list_files", "read_part"]


@dataclass(frozen=True)
class Part:
    """What one of the tasks is told, through XCom.

    :param part: its number, from 0.
    :param of: how many there are.
    :param listing: id of the list that it is a part of.
    :param files: number of files.
    :param bytes: their size.
    """

    part: int
    of: int
    listing: str
    files: int
    bytes: int

    @property
    def label(self) -> str:
        """The part in a line, for people."""
        files = "1 file" if self.files == 1 else f"{self.files} files"
        return f"part {self.part + 1} of {self.of}: {files}, {_size(self.bytes)}"


@dataclass(frozen=True)
class FileList:
    """Files in parts, as they were when they were listed.

    :param base: URI of the folder that all of them lie in.
    :param layout: how they are read; told from all of them, so that it is the same for each part.
    :param parts: the files of each part, none empty.
    """

    base: str
    layout: Layout
    parts: tuple[tuple[File, ...], ...]

    @cached_property
    def id(self) -> str:
        """The same for the same files in the same parts."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def told(self) -> list[dict[str, Any]]:
        """What XCom holds: one mapping a part, to expand a task over."""
        return [
            asdict(Part(number, len(self.parts), self.id, len(files), sum(file.size for file in files)))
            for number, files in enumerate(self.parts)
        ]

    def to_json(self) -> str:
        """Write it as text."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> FileList:
        """Read the text."""
        raw = json.loads(text)
        parts = tuple(tuple(File(**file) for file in files) for files in raw["parts"])
        return cls(raw["base"], Layout.of(raw["layout"]), parts)


def list_files(source: FilesSource, parts: int, bench: Workbench) -> FileList:
    """List the files of a source and put them into parts of about the same size.

    Parts are neighbours in the order of the names, so that all rows come in the order that one task would give them.

    :param parts: at most so many; fewer where there are fewer files.
    :raises ConfigurationError: if there are no files, or their format cannot be told.
    """

    def look(listing: Listing) -> FileList:
        layout = layout_of(listing, source)
        files = files_of(listing)
        if layout.kind != "parquet":
            # Nothing is in them, not even a header.
            files = [file for file in files if file.size] or files
        if layout.hive and not layout.types:
            layout = layout.typed(hive_types(listing.files, bench.engine))
        return FileList(listing.base.uri or "/", layout, balanced(files, [file.size for file in files], parts))

    with bench.engine.explaining(f"source files {public(source.uri)}"):
        return settled(bench.storage.locate(source.uri, source.connection), bench.engine, look)


def read_part(source: FilesSource, files: FileList, number: int, bench: Workbench) -> Table:
    """Read one part of listed files.

    :raises ConfigurationError: if a file changed since, or is not of the format.
    """
    base = bench.storage.locate(files.base, source.connection)
    try:
        pinned = pin(base, files.parts[number], bench.engine)
    except (Changed, FileNotFoundError) as error:
        raise ConfigurationError(
            f"source files {public(source.uri)}: {error} is not as it was when the files were listed; "
            "clear this run from the task that lists them on, with all downstream tasks"
        ) from error
    with bench.engine.explaining(f"source files {public(source.uri)}, part {number + 1} of {len(files.parts)}", ADVICE):
        query = select(files.layout, pinned, source, bench.engine)
        bench.engine.columns(query)
    return Table(query)


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
