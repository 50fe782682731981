"""How far the runs of a pipeline have loaded a topic, written down beside the loads.

``<folder>/.kafka/<dag>/<topic>/`` holds ``progress.json`` and ``runs/<run>.json``::

    extract   settle, then claim: the range of this run is written down before it is read, once for all of its tries
    load      the claim learns where the load goes; the load appears and names run and range, by one rename or upload
    settle    if the load of the claim is there, what the run set aside appears too, the claim's end is the new
              position, and the run keeps its range for ever

Whoever comes next settles what a dead process could not. The position is therefore what has been published, always: a
load that did not appear has not moved it, one that did appear has.

On a disk, who claims or publishes holds a lock on the folder, which dies with the process: what one run has claimed
cannot be taken over while it is being published, nor the ledger be written by two. S3 has no locks; see
:func:`~airflow_mlplatform.steps.kafka.loading.loading`.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable
from airflow_mlplatform.steps.kafka.aside import Aside
from airflow_mlplatform.steps.kafka.ledger import Claim, Ledger, write_text
from airflow_mlplatform.steps.publish import held
from airflow_mlplatform.steps.scratch import holds
from airflow_mlplatform.steps.staged_files import delete, read_text, segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlplatform.specs.etl import Load
    from airflow_mlplatform.steps.kafka.ranges import Reach
    from airflow_mlplatform.steps.storage import Location
    from airflow_mlplatform.steps.workbench import Run, Workbench

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """The progress of one pipeline in one topic.

    :param topic: name of the topic.
    :param bench: engine, storage and run; its ``progress`` is the folder that all loads of the pipeline share.
    """

    topic: str
    bench: Workbench

    @classmethod
    def folder(cls, bench: Workbench) -> Location:
        """Where a pipeline keeps its progress in all topics.

        :raises ConfigurationError: if the task was not told.
        """
        if not bench.progress:
            raise ConfigurationError(
                "source kafka: there is no place to write down how far the topic is loaded; give the task progress=, "
                "the folder that all loads of the pipeline share"
            )
        return bench.storage.locate(bench.progress) / ".kafka" / segment(bench.run.dag_id)

    @classmethod
    def of_run(cls, bench: Workbench) -> list[Progress]:
        """Find the topics of which this run has claimed or loaded something.

        :raises ConfigurationError: if another run has taken over what this one had claimed.
        """
        from pyarrow import fs

        folder = cls.folder(bench)
        found = folder.filesystem.get_file_info(fs.FileSelector(folder.path, allow_not_found=True))
        all_topics = [Ledger.at(folder / info.base_name) for info in found if info.type == fs.FileType.Directory]
        topics = [cls(ledger.topic, bench) for ledger in all_topics if ledger is not None]
        return sorted((one for one in topics if one.reach() is not None), key=lambda one: one.topic)

    @property
    def place(self) -> Location:
        """The folder of this topic."""
        return self.folder(self.bench) / segment(self.topic)

    @contextmanager
    def alone(self) -> Iterator[Ledger]:
        """Keep other runs away from the ledger for the block; gives the ledger, settled.

        :raises ServiceUnavailable: if another one is at it just now.
        """
        if self.place.s3 is not None:
            yield self.settle()
            return
        self.place.local.mkdir(parents=True, exist_ok=True)
        with holds(self.place.local) as mine:
            if not mine:
                raise ServiceUnavailable(
                    f"topic {self.topic}: another run of {self.bench.run.dag_id} is publishing what it has read; "
                    "a retry may help; with max_active_runs=1 runs do not meet"
                )
            yield self.settle()

    def settle(self) -> Ledger:
        """Move the position to the end of a load that has appeared, and give the ledger; for who is alone with it."""
        ledger = self._read()
        claim = ledger.claim
        if claim is None or claim.load is None:
            return ledger
        found = held(claim.load, self.bench)
        if found is None or found.run != claim.run.key or found.reads.get(self.topic) != claim.reach.to_dict():
            return ledger
        self.aside(claim.run).publish(self.bench)
        delete(self._void(claim.run))
        # The record first: a run that has one loads the same range again, whatever the position says.
        self._put(self._record(claim.run), json.dumps(claim.to_dict(), indent=1))
        settled = replace(ledger, position=claim.reach.end, claim=None)
        self._write(settled)
        return settled

    def columns(self) -> tuple[tuple[str, str], ...]:
        """Names and types of columns that were told from the records so far."""
        return self._read().columns

    def learn(self, columns: tuple[tuple[str, str], ...]) -> None:
        """Write down what the records of this run have told of columns."""
        with self.alone() as ledger:
            if ledger.columns != columns:
                self._write(replace(ledger, columns=columns))

    def loaded(self) -> Reach | None:
        """What this run has loaded before, if it has; it loads the same again."""
        text = read_text(self._record(self.bench.run))
        return None if text is None else Claim.of(json.loads(text)).reach

    def reach(self) -> Reach | None:
        """What this run has claimed or loaded.

        :raises ConfigurationError: if another run has taken that over.
        """
        claim = self._read().claim
        if claim is not None and claim.run == self.bench.run:
            return claim.reach
        text = read_text(self._void(self.bench.run))
        if text is not None:
            raise ConfigurationError(
                f"topic {self.topic}: what this run had read was taken over by run {json.loads(text)}, since this one "
                "had not loaded it by then; clear this run from the extract task on, with all downstream tasks"
            )
        return self.loaded()

    def claim(self, reach: Reach, ledger: Ledger) -> None:
        """Write down what this run is going to read; a claim of another run whose load never appeared is void.

        :param ledger: what :meth:`alone` gave.
        """
        if ledger.claim is not None and ledger.claim.run != self.bench.run:
            self._put(self._void(ledger.claim.run), json.dumps(self.bench.run.run_id))
            self.aside(ledger.claim.run).drop()
        self._write(replace(ledger, position=ledger.position or reach.begin, claim=Claim(self.bench.run, reach)))

    def aim(self, load: Load) -> None:
        """Write down where the claim of this run is about to be published; for who is alone with the ledger."""
        ledger = self._read()
        if ledger.claim is not None and ledger.claim.run == self.bench.run:
            self._write(replace(ledger, claim=replace(ledger.claim, load=load)))

    def aside(self, run: Run) -> Aside:
        """What a run sets aside of the topic."""
        return Aside(self.place / "aside", run)

    def _read(self) -> Ledger:
        return Ledger.at(self.place) or Ledger(self.topic)

    def _write(self, ledger: Ledger) -> None:
        self._put(self.place / "progress.json", ledger.to_json())

    def _void(self, run: Run) -> Location:
        return self.place / "void" / f"{segment(run.run_id)}.json"

    def _record(self, run: Run) -> Location:
        return self.place / "runs" / f"{segment(run.run_id)}.json"

    def _put(self, place: Location, text: str) -> None:
        write_text(place, text, self.bench.engine)
