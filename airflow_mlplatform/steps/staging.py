"""Data between the tasks of one run: a Parquet file a task."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps import publish_local, publish_s3
from airflow_mlplatform.steps.parquet import facts_of, write_parquet
from airflow_mlplatform.steps.publish import LoadResult, publish, published
from airflow_mlplatform.steps.snapshot import take
from airflow_mlplatform.steps.storage import Location, s3_errors
from airflow_mlplatform.steps.workbench import Table, Workbench

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlplatform.specs.etl import Load

__all__ = ["Staging", "load_staged"]

LONGEST = 120


def _segment(text: str) -> str:
    """Make a file name of an id, another one for each id."""
    name = quote(text, safe="+:@") if text.strip(".") else text.replace(".", "%2E")
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}~{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Staging:
    """The staging area of one run.

    :param base: folder or URI of all staging (``[mlplatform] staging``).
    :param bench: engine, storage and run.
    """

    base: str
    bench: Workbench

    def place(self, task: str) -> Location:
        """Where a task stages its result: ``<base>/<dag>/<run>/<task>.parquet``."""
        run = self.bench.run
        folder = self.bench.storage.locate(self.base)
        return folder / _segment(run.dag_id) / _segment(run.run_id) / f"{_segment(task)}.parquet"

    def put(self, task: str, table: Table) -> LoadResult:
        """Stage the result of a task, all at once; a retry replaces it."""
        place, engine = self.place(task), self.bench.engine
        with engine.explaining(f"staging of task {task}"):
            file = table.file or write_parquet(self.bench, table.query, engine.fresh("staged.parquet")).file
            assert file is not None
            publisher = publish_local if place.s3 is None else publish_s3
            publisher.replace_file(place, file)
            facts = facts_of(engine, file)
        return LoadResult(place.uri, facts.rows, facts.bytes, facts.schema_hash)

    def get(self, task: str) -> Table:
        """Return what a task staged.

        :raises ConfigurationError: if it is gone.
        """
        table = self.find(task)
        if table is None:
            raise ConfigurationError(
                f"{self.place(task).uri}: task {task} has staged nothing, or its load has removed it after publishing; "
                "clear this run from the extract task on, with all downstream tasks"
            )
        return table

    def find(self, task: str) -> Table | None:
        """Return what a task staged, if it is there."""
        place = self.place(task)
        with s3_errors(place.uri):
            if not place.filesystem.get_file_info(place.path).is_file:
                return None
        return Table.of(take(place, self.bench.engine).files[0])

    def remove(self, tasks: list[str]) -> None:
        """Remove what tasks staged, and the run's folder with the last of it."""
        for task in tasks:
            place = self.place(task)
            with s3_errors(place.uri):
                if place.filesystem.get_file_info(place.path).is_file:
                    place.filesystem.delete_file(place.path)
            if place.s3 is None:
                _prune(place.local)


def _prune(file: Path) -> None:
    for folder in (file.parent, file.parent.parent):
        try:
            folder.rmdir()
        except OSError:  # other runs or tasks still have data here
            return


def load_staged(load: Load, staging: Staging, task: str, bench: Workbench) -> LoadResult:
    """Publish what a task has staged. A load that died after publishing and clearing up finds its own work.

    :raises ConfigurationError: if nothing is staged and what lies there is not of this run.
    """
    table = staging.find(task)
    if table is None:
        done = published(load, bench)
        if done is not None:
            return done
    return publish(load, table or staging.get(task), bench)
