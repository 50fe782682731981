"""The data files of a folder's load."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.engine import identifier, literal
from airflow_mlplatform.steps.manifest import Manifest
from airflow_mlplatform.steps.parquet import RUN_KEY, Facts
from airflow_mlplatform.steps.workbench import Workbench, scan

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PART", "Parts", "link_or_copy"]

PART = re.compile(r"part-(?P<run>[0-9a-f]{8})-(?P<load>[0-9a-f]{12})-[0-9]+\.parquet")


@dataclass(frozen=True)
class Parts:
    """One load of a folder, not written yet.

    :param bench: engine and run.
    :param file: Parquet file with all of the data.
    :param facts: what is known of it.
    :param partition_by: columns that become folders.
    :param load: id of the load; no other load has files of the same names.
    """

    bench: Workbench
    file: Path
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

    def write(self, folder: Path) -> Manifest:
        """Write the data files into an empty folder.

        :raises ConfigurationError: if the data cannot be partitioned so.
        """
        self._check_columns()
        if self.partition_by and self.facts.rows:
            self._split(folder)
        else:
            link_or_copy(self.file, folder / f"{self.stem}0.parquet")
        files = tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*.parquet")))
        size = sum((folder / name).stat().st_size for name in files)
        partition_by = self.partition_by if self.facts.rows else ()
        return Manifest(self.bench.run.key, self.load, self.facts.rows, size, self.facts.columns, partition_by, files)

    def _check_columns(self) -> None:
        there = [name for name, _ in self.facts.columns]
        missing = [name for name in self.partition_by if name not in there]
        if missing:
            raise ConfigurationError(f"partition_by: no column {missing[0]!r} in the data; there: {', '.join(there)}")
        if self.partition_by and len(set(self.partition_by)) == len(there):
            raise ConfigurationError("partition_by names all columns, which leaves no data; leave one out")

    def _split(self, folder: Path) -> None:
        columns = ", ".join(identifier(name) for name in self.partition_by)
        self.bench.engine.rows(
            f"COPY (SELECT * FROM {scan([str(self.file)])}) TO {literal(str(folder))} "
            f"(FORMAT parquet, COMPRESSION zstd, PARTITION_BY ({columns}), OVERWRITE_OR_IGNORE, "
            f"FILENAME_PATTERN {literal(self.stem + '{i}')}, KV_METADATA {literal({RUN_KEY: self.bench.run.key})})"
        )
        self.bench.engine.go_on()


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file, which nobody will change, a second name; or copy it where that is not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
