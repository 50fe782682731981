"""The data files of a folder's load."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.engine import identifier, literal
from airflow_mlplatform.steps.manifest import Manifest
from airflow_mlplatform.steps.parquet import RUN_KEY, Facts, write_parquet
from airflow_mlplatform.steps.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from airflow_mlplatform.steps.staged_parts import StagedPart, StagedParts

__all__ = ["PART", "OneFile", "PartByPart", "Partitioned", "Parts", "link_or_copy"]

PART = re.compile(r"part-(?P<run>[0-9a-f]{8})-(?P<load>[0-9a-f]{12})-[0-9]+\.parquet")


@dataclass(frozen=True)
class Parts(ABC):
    """One load of a folder, not written yet.

    :param bench: engine and run.
    :param facts: what is known of the data.
    :param partition_by: columns that become folders.
    :param load: id of the load; no other load has files of the same names.
    """

    bench: Workbench
    facts: Facts
    partition_by: tuple[str, ...]
    load: str

    @property
    def run_mark(self) -> str:
        """What the names of all loads of this run share."""
        return hashlib.sha256(self.bench.run.key.encode()).hexdigest()[:8]

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return f"part-{self.run_mark}-{self.load}-"

    def write(self, folder: Path, written: Callable[[Sequence[str]], None] | None = None) -> Manifest:
        """Write the data files into an empty folder.

        :param written: told the names of files as soon as they are whole; may take them away by :meth:`drop`.
        :raises ConfigurationError: if the data cannot be partitioned so.
        """
        self._check_columns()
        names, size = [], 0
        for batch in self.files(folder):
            size += sum((folder / name).stat().st_size for name in batch)
            names += batch
            if written is not None:
                written(batch)
        partition_by = self.partition_by if self.facts.rows else ()
        return Manifest(
            run=self.bench.run.key,
            load=self.load,
            rows=self.facts.rows,
            bytes=size,
            columns=self.facts.columns,
            partition_by=partition_by,
            files=tuple(names),
            reads=dict(self.bench.reads),
        )

    @abstractmethod
    def files(self, folder: Path) -> Iterator[list[str]]:
        """Write files, some at a time, and yield their paths below the folder."""

    def drop(self, folder: Path, names: Sequence[str]) -> None:  # noqa: B027 - most cannot
        """Make room: remove files that have been copied elsewhere, if :meth:`again` can write them again."""

    def again(self, folder: Path, names: Sequence[str]) -> None:  # noqa: B027 - most need not
        """Write files again that were dropped."""

    def _check_columns(self) -> None:
        there = [name for name, _ in self.facts.columns]
        missing = [name for name in self.partition_by if name not in there]
        if missing:
            raise ConfigurationError(f"partition_by: no column {missing[0]!r} in the data; there: {', '.join(there)}")
        if self.partition_by and len(set(self.partition_by)) == len(there):
            raise ConfigurationError("partition_by names all columns, which leaves no data; leave one out")


@dataclass(frozen=True)
class OneFile(Parts):
    """A load that is one file.

    :param file: Parquet file with all of the data.
    """

    file: Path

    def files(self, folder: Path) -> Iterator[list[str]]:
        """Give the file its name there."""
        name = f"{self.stem}0.parquet"
        link_or_copy(self.file, folder / name)
        yield [name]


@dataclass(frozen=True)
class Partitioned(Parts):
    """A load in folders by the values of columns.

    :param query: a SELECT that gives all of the data.
    """

    query: str

    def files(self, folder: Path) -> Iterator[list[str]]:
        """Write all of them in one go."""
        columns = ", ".join(identifier(name) for name in self.partition_by)
        with self.bench.engine.partitioning():
            self.bench.engine.rows(
                f"COPY ({self.query}) TO {literal(str(folder))} "
                f"(FORMAT parquet, COMPRESSION zstd, PARTITION_BY ({columns}), OVERWRITE_OR_IGNORE, "
                f"FILENAME_PATTERN {literal(self.stem + '{i}')}, KV_METADATA {literal({RUN_KEY: self.bench.run.key})})"
            )
        self.bench.engine.go_on()
        yield sorted(str(path.relative_to(folder)) for path in folder.rglob("*.parquet"))


@dataclass(frozen=True)
class PartByPart(Parts):
    """A load of what several tasks staged: a file each, of which only one at a time need lie on this machine.

    :param staged: the parts.
    """

    staged: StagedParts

    @cached_property
    def named(self) -> dict[str, StagedPart]:
        """The parts by the names of their files in the load; empty ones only if all are."""
        kept = [part for part in self.staged.parts if part.rows] or self.staged.parts[:1]
        return {f"{self.stem}{number}.parquet": part for number, part in enumerate(kept)}

    def files(self, folder: Path) -> Iterator[list[str]]:
        """Write one after another."""
        for name in self.named:
            self.again(folder, [name])
            yield [name]

    def drop(self, folder: Path, names: Sequence[str]) -> None:
        """Remove files."""
        for name in names:
            (folder / name).unlink()

    def again(self, folder: Path, names: Sequence[str]) -> None:
        """Fetch files; bring those whose columns differ into line."""
        for name in names:
            self.bench.engine.go_on()
            with self.staged.one(self.named[name]) as table:
                if table.file is not None:
                    link_or_copy(table.file, folder / name)
                else:
                    write_parquet(self.bench, table.query, folder / name)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file, which nobody will change, a second name; or copy it where that is not possible."""
    try:
        # A second name of a symbolic link would be worth nothing once what it leads to is removed.
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)
