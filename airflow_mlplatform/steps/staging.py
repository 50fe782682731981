"""Data between the tasks of one run: a Parquet file a task, or a folder of parts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.file_list import FileList, Part
from airflow_mlplatform.steps.kafka.loading import loading
from airflow_mlplatform.steps.parquet import facts_of, schema_hash, write_parquet
from airflow_mlplatform.steps.publish import LoadResult, publish, published
from airflow_mlplatform.steps.snapshot import fetch, take
from airflow_mlplatform.steps.staged_files import delete, prune, read_text, replace_file, segment
from airflow_mlplatform.steps.staged_parts import StagedPart, StagedParts
from airflow_mlplatform.steps.storage import Location, s3_errors
from airflow_mlplatform.steps.workbench import Table, Workbench

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlplatform.specs.etl import Load

__all__ = ["Staging", "load_staged"]

LIST = ".json"
PARTS = ".parts"
READS = 8


@dataclass(frozen=True)
class Staging:
    """The staging area of one run.

    :param base: folder or URI of all staging (``[mlplatform] staging``).
    :param bench: engine, storage and run.
    """

    base: str
    bench: Workbench

    def place(self, task: str, ending: str = ".parquet") -> Location:
        """Where a task stages its result: ``<base>/<dag>/<run>/<task>.parquet``."""
        run = self.bench.run
        folder = self.bench.storage.locate(self.base)
        return folder / segment(run.dag_id) / segment(run.run_id) / f"{segment(task)}{ending}"

    def put(self, task: str, table: Table) -> LoadResult:
        """Stage the result of a task, all at once; a retry replaces it."""
        place, engine = self.place(task), self.bench.engine
        with engine.explaining(f"staging of task {task}"):
            file = self._file(table)
            replace_file(place, file)
            facts = facts_of(engine, file)
        return LoadResult(place.uri, facts.rows, facts.bytes, facts.schema_hash)

    def put_list(self, task: str, files: FileList) -> None:
        """Stage the list of files that other tasks share; a retry replaces it, and with it all that they staged."""
        self._put_text(self.place(task, LIST), files.to_json())

    def get_list(self, task: str) -> FileList:
        """Return a list of files.

        :raises ConfigurationError: if it is gone.
        """
        files = self._find_list(task)
        if files is None:
            raise self._gone(self.place(task, LIST), task)
        return files

    def put_part(self, task: str, part: Part, table: Table) -> LoadResult:
        """Stage one part of a task's result, all at once; a retry replaces it."""
        folder, engine = self.place(task, PARTS), self.bench.engine
        name = f"{part.listing}-{part.part}-{uuid4().hex[:12]}.parquet"
        with engine.explaining(f"staging of task {task}, {part.label}"):
            file = self._file(table)
            staged = StagedPart.of(file, name, engine)
            replace_file(folder / name, file)
            # From here on it counts; whoever read the former text still has the former file.
            self._put_text(folder / _part_name(part.listing, part.part), staged.to_json())
        return LoadResult((folder / name).uri, staged.rows, staged.bytes, schema_hash(staged.columns))

    def get_part(self, task: str, part: Part) -> Table:
        """Return one part of what a task staged.

        :raises ConfigurationError: if it is gone.
        """
        folder = self.place(task, PARTS)
        staged = self._part(task, part.listing, part.part)
        return Table.of(fetch(folder, [staged.file], self.bench.engine)[0])

    def get_parts(self, task: str, listing: str) -> StagedParts:
        """Return all parts that a task staged, as many as the list says; not those of an earlier list.

        :param listing: id of the task that staged the list.
        :raises ConfigurationError: if the list or one of them is gone.
        """
        parts = self.find_parts(task, listing)
        if parts is None:
            raise self._gone(self.place(listing, LIST), listing)
        return parts

    def find_parts(self, task: str, listing: str) -> StagedParts | None:
        """Return all parts that a task staged; ``None`` if the list is not there."""
        files = self._find_list(listing)
        if files is None:
            return None
        with ThreadPoolExecutor(READS) as pool:
            staged = list(pool.map(lambda number: self._part(task, files.id, number), range(len(files.parts))))
        return StagedParts(self.place(task, PARTS), tuple(staged), task, self.bench)

    def get(self, task: str) -> Table:
        """Return what a task staged.

        :raises ConfigurationError: if it is gone.
        """
        table = self.find(task)
        if table is None:
            raise self._gone(self.place(task), task)
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
        # The lists first: who dies in between leaves no list that promises parts which have gone.
        for ending in (LIST, ".parquet", PARTS):
            for task in tasks:
                delete(self.place(task, ending))
        for task in tasks:
            place = self.place(task)
            if place.s3 is None:
                prune(place.local)

    def _file(self, table: Table) -> Path:
        file = table.file or write_parquet(self.bench, table.query, self.bench.engine.fresh("staged.parquet")).file
        assert file is not None
        return file

    def _put_text(self, place: Location, text: str) -> None:
        file = self.bench.engine.fresh("staged.json")
        file.write_text(text)
        replace_file(place, file)

    def _find_list(self, task: str) -> FileList | None:
        text = read_text(self.place(task, LIST))
        return None if text is None else FileList.from_json(text)

    def _part(self, task: str, listing: str, number: int) -> StagedPart:
        place = self.place(task, PARTS) / _part_name(listing, number)
        text = read_text(place)
        if text is None:
            raise self._gone(place, f"{task}[{number}]")
        return StagedPart.from_json(text)

    def _gone(self, place: Location, task: str) -> ConfigurationError:
        return ConfigurationError(
            f"{place.uri}: task {task} has staged nothing, or its load has removed it after publishing; "
            "clear this run from the extract task on, with all downstream tasks"
        )


def _part_name(listing: str, number: int) -> str:
    return f"{listing}-{number}.json"


def load_staged(load: Load, staging: Staging, task: str, bench: Workbench, listing: str | None = None) -> LoadResult:
    """Publish what a task has staged. A load that died after publishing and clearing up finds its own work.

    :param listing: id of the task that listed the files, if the data is staged in parts.
    :raises ConfigurationError: if nothing is staged and what lies there is not of this run.
    """
    data = staging.find(task) if listing is None else staging.find_parts(task, listing)
    if data is None:
        done = published(load, bench)
        if done is not None:
            return done
        data = staging.get(task) if listing is None else staging.get_parts(task, listing)
    with loading(load, bench) as marking:
        return publish(load, data, marking)
