"""Records that do not parse wait beside the ledger until the load of their run is there."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_mlplatform.specs.etl import Load
from airflow_mlplatform.steps.kafka.ledger import write_text
from airflow_mlplatform.steps.publish import publish
from airflow_mlplatform.steps.snapshot import take
from airflow_mlplatform.steps.staged_files import delete, read_text, replace_file, segment
from airflow_mlplatform.steps.workbench import Table

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlplatform.steps.storage import Location
    from airflow_mlplatform.steps.workbench import Run, Workbench

__all__ = ["Aside"]


@dataclass(frozen=True)
class Aside:
    """What one run sets aside of one topic.

    :param folder: where such records wait.
    :param run: the run.
    """

    folder: Location
    run: Run

    def keep(self, file: Path, load: Load, bench: Workbench) -> None:
        """Let records wait; those of a former try go.

        :param file: Parquet file of them.
        :param load: where they become visible.
        """
        self.drop()
        replace_file(self._data, file)
        write_text(self._note, json.dumps({"uri": load.uri, "connection": load.connection}), bench.engine)

    def drop(self) -> None:
        """Forget records that wait, if there are any."""
        # The note last in, first out: without it the data means nothing.
        delete(self._note)
        delete(self._data)

    def publish(self, bench: Workbench) -> None:
        """Make records visible that wait; more than once is the same as once."""
        text = read_text(self._note)
        if text is None:
            return
        note = json.loads(text)
        (file,) = take(self._data, bench.engine).files
        publish(Load(**note, asset=note["uri"]), Table.of(file), replace(bench, run=self.run, reads={}))
        self.drop()

    @property
    def _note(self) -> Location:
        return self.folder / f"{segment(self.run.run_id)}.json"

    @property
    def _data(self) -> Location:
        return self.folder / f"{segment(self.run.run_id)}.parquet"
