"""What a ledger holds: how far a topic is loaded, and who is loading what follows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.etl import Load
from airflow_mlplatform.steps.kafka.ranges import Position, Reach
from airflow_mlplatform.steps.staged_files import read_text, replace_file
from airflow_mlplatform.steps.workbench import Run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlplatform.steps.engine import Engine
    from airflow_mlplatform.steps.storage import Location

__all__ = ["Claim", "Ledger", "write_text"]


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

    @classmethod
    def at(cls, place: Location) -> Ledger | None:
        """Read the ledger of a topic's folder; ``None`` if there is none."""
        text = read_text(place / "progress.json")
        return None if text is None else cls.from_json(text, f"{place.uri}/progress.json")


def write_text(place: Location, text: str, engine: Engine) -> None:
    """Replace a small file, all at once."""
    file = engine.fresh("progress.json")
    file.write_text(text)
    replace_file(place, file)
