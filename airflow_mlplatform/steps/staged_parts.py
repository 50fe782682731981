"""What several tasks staged, a part each, put together by the names of the columns."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.column_types import common_type
from airflow_mlplatform.steps.engine import Engine, identifier, literal
from airflow_mlplatform.steps.parquet import Columns, Facts, facts_of
from airflow_mlplatform.steps.snapshot import fetch
from airflow_mlplatform.steps.workbench import Table, Workbench, scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_mlplatform.steps.storage import Location

__all__ = ["StagedPart", "StagedParts"]


@dataclass(frozen=True)
class StagedPart:
    """One part, as its task left it.

    :param file: name of its Parquet file.
    :param rows: number of rows.
    :param bytes: size of the file.
    :param columns: names and types, in order.
    :param void: columns without any value; their types mean nothing.
    """

    file: str
    rows: int
    bytes: int
    columns: Columns
    void: tuple[str, ...]

    @classmethod
    def of(cls, file: Path, name: str, engine: Engine) -> StagedPart:
        """Describe a Parquet file on this machine that will be staged under a name."""
        facts = facts_of(engine, file)
        return cls(name, facts.rows, facts.bytes, facts.columns, _void(file, facts, engine))

    def to_json(self) -> str:
        """Write it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> StagedPart:
        """Read the text."""
        raw = json.loads(text)
        columns = tuple((name, kind) for name, kind in raw["columns"])
        return cls(raw["file"], raw["rows"], raw["bytes"], columns, tuple(raw["void"]))


def _void(file: Path, facts: Facts, engine: Engine) -> tuple[str, ...]:
    if not facts.rows:
        return tuple(name for name, _ in facts.columns)
    found = engine.rows(
        f"SELECT path_in_schema FROM parquet_metadata({literal(str(file))}) GROUP BY ALL "
        "HAVING bool_and(stats_null_count IS NOT NULL AND stats_null_count = num_values)"
    )
    return tuple(name for (name,) in found)


@dataclass(frozen=True)
class StagedParts:
    """All parts of one run, in order.

    :param folder: where their files lie.
    :param parts: the parts, at least one.
    :param task: who staged them, for messages.
    :param bench: engine, storage and run.
    """

    folder: Location
    parts: tuple[StagedPart, ...]
    task: str
    bench: Workbench

    @cached_property
    def facts(self) -> Facts:
        """What is known of all parts together; columns in the order in which they first appear.

        A column that a part lacks is null there. Numbers of different types become the wider one, as dates and times
        do; a column of nothing but nulls takes the type that the others give it.

        :raises ConfigurationError: if a column has types that do not go together.
        """
        names: dict[str, str] = {}
        for name, _ in (column for part in self.parts for column in part.columns):
            names.setdefault(name.lower(), name)
        return Facts(
            rows=sum(part.rows for part in self.parts),
            bytes=sum(part.bytes for part in self.parts),
            columns=tuple((name, self._type(name)) for name in names.values()),
        )

    def _type(self, name: str) -> str:
        found: dict[str, int] = {}
        void: list[str] = []
        for number, part in enumerate(self.parts):
            for column, kind in part.columns:
                if column.lower() == name.lower():
                    void.append(kind)
                    if column not in part.void:
                        found.setdefault(kind, number + 1)
        if not found:
            return void[0]
        common = common_type(tuple(found), self.bench.engine)
        if common is None:
            shown = ", ".join(f"{one} in part {number}" for one, number in found.items())
            raise ConfigurationError(
                f"task {self.task}: column {name!r} is {shown}; give its type in the source, "
                f"columns: {{{name}: TYPE}}, or cast it in a transform that runs per part"
            )
        return common

    def table(self) -> Table:
        """Put all parts together, for queries; their files are pinned here, nothing is copied into one."""
        files = fetch(self.folder, [part.file for part in self.parts], self.bench.engine)
        pairs = groupby(zip(self.parts, files, strict=True), key=lambda pair: pair[0].columns)
        selects = [self._select(columns, [str(file) for _, file in group]) for columns, group in pairs]
        if len(selects) == 1 and len(files) == 1 and self.facts.columns == self.parts[0].columns:
            return Table.of(files[0])
        return Table("\nUNION ALL ".join(selects))

    @contextmanager
    def one(self, part: StagedPart) -> Iterator[Table]:
        """Pin one part for the block, with the columns that all have together; a file if it has them already."""
        (file,) = fetch(self.folder, [part.file], self.bench.engine)
        try:
            fits = part.columns == self.facts.columns
            yield Table.of(file) if fits else Table(self._select(part.columns, [str(file)]))
        finally:
            file.unlink()

    def _select(self, columns: Columns, files: list[str]) -> str:
        if columns == self.facts.columns:
            return f"SELECT * FROM {scan(files)}"
        there = {name.lower() for name, _ in columns}
        selected = (
            f"CAST({identifier(name) if name.lower() in there else 'NULL'} AS {kind}) AS {identifier(name)}"
            for name, kind in self.facts.columns
        )
        return f"SELECT {', '.join(selected)} FROM {scan(files)}"
