"""How far the runs of a pipeline have loaded a topic, written down beside the loads.

``<folder>/.kafka/<dag>/<topic>/`` holds ``progress.json`` and ``runs/<run>.json``::

    extract   settle, then claim: the range of this run is written down before it is read, once for all of its tries
    load      the claim learns where the load goes; the load appears and names run and range, by one rename or upload
    settle    if the load of the claim is there, its end is the new position, and the run keeps its range for ever

Whoever comes next settles what a dead process could not. The position is therefore what has been published, always: a
load that did not appear has not moved it, one that did appear has.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.etl import Load
from airflow_mlplatform.steps.kafka.ranges import Position, Reach
from airflow_mlplatform.steps.publish import held
from airflow_mlplatform.steps.staged_files import delete, read_text, replace_file, segment
from airflow_mlplatform.steps.workbench import Run, Workbench

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlplatform.steps.storage import Location

__all__ = ["Claim", "Ledger", "Progress"]


@dataclass(frozen=True)
class Claim:
    """What a run is about to load.

    :param run: the run.
    :param reach: its range.
    :param load: where its load goes, once that is known.
    """

    run: Run
    reach: Reach
    load: Load | None = None

    def to_dict(self) -> dict[str, Any]:
        """Write it as JSON has it."""
        load = None if self.load is None else {"uri": self.load.uri, "connection": self.load.connection}
        return {"dag_id": self.run.dag_id, "run_id": self.run.run_id, "reach": self.reach.to_dict(), "load": load}

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Claim:
        """Read it from JSON."""
        load = None if raw["load"] is None else Load(**raw["load"], asset=raw["load"]["uri"])
        return cls(Run(raw["dag_id"], raw["run_id"]), Reach.of(raw["reach"]), load)


@dataclass(frozen=True)
class Ledger:
    """What ``progress.json`` holds.

    :param topic: name of the topic.
    :param position: how far it is loaded; ``None`` before the first claim.
    :param claim: the range that is being loaded, or whose load failed.
    :param columns: names and types of columns that were told from the records so far.
    """

    topic: str
    position: Position | None = None
    claim: Claim | None = None
    columns: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> str:
        """Write it as the file's text."""
        position = None if self.position is None else self.position.to_dict()
        claim = None if self.claim is None else self.claim.to_dict()
        return json.dumps(
            {"version": 1, "topic": self.topic, "position": position, "claim": claim, "columns": self.columns}, indent=1
        )

    @classmethod
    def from_json(cls, text: str, where: str) -> Ledger:
        """Read the file's text.

        :param where: its URI, for the message.
        :raises ConfigurationError: if this package did not write it.
        """
        try:
            raw = json.loads(text)
            position = None if raw["position"] is None else Position.of(raw["position"])
            claim = None if raw["claim"] is None else Claim.of(raw["claim"])
            return cls(raw["topic"], position, claim, tuple((name, kind) for name, kind in raw["columns"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"{where}: does not tell how far the topic is loaded ({type(error).__name__}: {error}); put back the "
                "file as it was, or remove it together with the loads beside it"
            ) from error


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
        all_topics = [_ledger(folder / info.base_name) for info in found if info.type == fs.FileType.Directory]
        topics = [cls(ledger.topic, bench) for ledger in all_topics if ledger is not None]
        return sorted((one for one in topics if one.reach() is not None), key=lambda one: one.topic)

    @property
    def place(self) -> Location:
        """The folder of this topic."""
        return self.folder(self.bench) / segment(self.topic)

    def ledger(self) -> Ledger:
        """Read the ledger, and settle it first where a process died before it could."""
        ledger = _ledger(self.place) or Ledger(self.topic)
        claim = ledger.claim
        if claim is None or claim.load is None:
            return ledger
        found = held(claim.load, self.bench)
        if found is None or found.run != claim.run.key or found.reads.get(self.topic) != claim.reach.to_dict():
            return ledger
        return self._settle(ledger, claim)

    def loaded(self) -> Reach | None:
        """What this run has loaded before, if it has; it loads the same again."""
        text = read_text(self._record(self.bench.run))
        return None if text is None else Claim.of(json.loads(text)).reach

    def reach(self) -> Reach | None:
        """What this run has claimed or loaded."""
        claim = self.ledger().claim
        if claim is not None and claim.run == self.bench.run:
            return claim.reach
        text = read_text(self._void(self.bench.run))
        if text is not None:
            raise ConfigurationError(
                f"topic {self.topic}: what this run had read was taken over by run {json.loads(text)}, since this one "
                "had not loaded it by then; clear this run from the extract task on, with all downstream tasks"
            )
        return self.loaded()

    def claim(self, reach: Reach) -> None:
        """Write down what this run is going to read; a claim of another run whose load never appeared is void."""
        ledger = self.ledger()
        if ledger.claim is not None and ledger.claim.run != self.bench.run:
            self._put(self._void(ledger.claim.run), json.dumps(self.bench.run.run_id))
        self.write(replace(ledger, position=ledger.position or reach.begin, claim=Claim(self.bench.run, reach)))

    def aim(self, load: Load) -> None:
        """Write down where the claim of this run is about to be published."""
        ledger = self.ledger()
        if ledger.claim is not None and ledger.claim.run == self.bench.run:
            self.write(replace(ledger, claim=replace(ledger.claim, load=load)))

    def write(self, ledger: Ledger) -> None:
        """Replace the ledger."""
        self._put(self.place / "progress.json", ledger.to_json())

    def _settle(self, ledger: Ledger, claim: Claim) -> Ledger:
        delete(self._void(claim.run))
        # The record first: a run that has one loads the same range again, whatever the position says.
        self._put(self._record(claim.run), json.dumps(claim.to_dict(), indent=1))
        settled = replace(ledger, position=claim.reach.end, claim=None)
        self.write(settled)
        return settled

    def _void(self, run: Run) -> Location:
        return self.place / "void" / f"{segment(run.run_id)}.json"

    def _record(self, run: Run) -> Location:
        return self.place / "runs" / f"{segment(run.run_id)}.json"

    def _put(self, place: Location, text: str) -> None:
        file = self.bench.engine.fresh("progress.json")
        file.write_text(text)
        replace_file(place, file)


def _ledger(place: Location) -> Ledger | None:
    file = place / "progress.json"
    text = read_text(file)
    return None if text is None else Ledger.from_json(text, file.uri)
