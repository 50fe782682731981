"""What the annotations of a SeldonDeployment hold of its rollout: how far it is, and how the last one ended.

State and spec change in one server-side apply, so that whoever finds the resource finds both as they belong together.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_mlplatform.exceptions import ConfigurationError

__all__ = [
    "OUTCOME",
    "STATE",
    "Abort",
    "Former",
    "Outcome",
    "RolloutState",
    "Who",
    "outcome_of",
    "state_of",
    "written",
]

STATE = "mlplatform.airflow/rollout"
OUTCOME = "mlplatform.airflow/outcome"

Action = Literal["deploy", "rollback", "scale"]
T = TypeVar("T", bound=BaseModel)


class Note(BaseModel):
    """Base of what is kept in an annotation: frozen, and nothing that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Who(Note):
    """Whose rollout it is.

    :param id: the same for every try of a task, and for nothing else.
    :param attempt: number of the try.
    :param airflow: address of the Airflow that runs it.
    """

    id: str
    attempt: int
    dag_id: str
    run_id: str
    task_id: str
    airflow: str = ""

    def __str__(self) -> str:
        return f"{self.dag_id} / {self.run_id} / {self.task_id}"


class Former(Note):
    """What served before: of the resource what this package sets, as it was.

    :param spec: the ``spec``, down to what belongs to others.
    :param labels: labels that this package sets.
    :param annotations: annotations that this package sets, without state and outcome.
    """

    spec: dict[str, Any]
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Abort(Note):
    """Why a rollout goes back.

    :param lasting: no other try can mend it.
    :param wanted: a person asked for it, so it is no failure.
    :param kept: the candidate lost its A/B test, which is no failure either.
    :param draining: the candidate is still there, without requests.
    """

    why: str
    at: datetime
    lasting: bool = True
    wanted: bool = False
    kept: bool = False
    draining: bool = False


class RolloutState(Note):
    """How far a rollout is.

    :param format: of this note; a reader that does not know it stops.
    :param who: whose rollout it is.
    :param wish: digest of what was asked for.
    :param strategy: how traffic moves.
    :param model: registered model that is rolled out; empty if it is none.
    :param version: its version.
    :param former_version: the version that served before; empty if none did, or nobody knows.
    :param base: name of the predictor that served before.
    :param former: what served before; ``None`` if nothing did.
    :param step: index of the stage whose spec is applied.
    :param since: when that was.
    :param ready: when it was there: servers up, traffic moved.
    :param failures: failed looks in a row.
    :param dark: since when the analysis gets no answer.
    :param paused: whether it waits for a person.
    :param steps: what was done so far, for people.
    :param abort: why it goes back; ``None`` if it does not.
    """

    format: Literal[1] = 1
    action: Action = "deploy"
    who: Who
    wish: str
    strategy: str
    model: str = ""
    version: str = ""
    former_version: str = ""
    base: str
    former: Former | None = None
    step: int = 0
    since: datetime
    ready: datetime | None = None
    failures: int = 0
    dark: datetime | None = None
    paused: bool = False
    steps: tuple[str, ...] = ()
    abort: Abort | None = None


class Outcome(Note):
    """How a rollout ended.

    :param result: ``done``; ``unchanged``: nothing differed; ``paused``: waits for a person; ``staying``: an A/B test
        that goes on; ``kept``: the candidate lost its A/B test; ``aborted``: what served before is back;
        ``stopped``: somebody else changed the resource, which stays as they left it.
    :param why: for people.
    :param lasting: no other try can mend it.
    :param wish: digest of what was asked for.
    :param steps: what was done, for people.
    """

    format: Literal[1] = 1
    action: Action = "deploy"
    who: Who
    result: Literal["done", "unchanged", "paused", "staying", "kept", "aborted", "stopped"]
    why: str = ""
    lasting: bool = True
    wish: str
    strategy: str
    model: str = ""
    version: str = ""
    former_version: str = ""
    steps: tuple[str, ...] = ()
    at: datetime


def state_of(live: dict[str, Any] | None) -> RolloutState | None:
    """Read the state of the rollout that is under way; ``None`` if there is none.

    :raises ConfigurationError: if it is not understood.
    """
    return _read(RolloutState, live, STATE)


def outcome_of(live: dict[str, Any] | None) -> Outcome | None:
    """Read how the last rollout ended; ``None`` if there was none.

    :raises ConfigurationError: if it is not understood.
    """
    return _read(Outcome, live, OUTCOME)


def written(note: Note) -> str:
    """Write a note for its annotation."""
    return note.model_dump_json(exclude_defaults=True)


def _read(kind: type[T], live: dict[str, Any] | None, annotation: str) -> T | None:
    metadata = (live or {}).get("metadata") or {}
    text = (metadata.get("annotations") or {}).get(annotation)
    if not text:
        return None
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigurationError(
            f"seldondeployment {metadata.get('namespace')}/{metadata.get('name')}: the annotation {annotation} is not "
            f"understood ({'.'.join(map(str, first['loc']))}: {first['msg']}); it was edited, or written by another "
            "version of airflow-mlplatform: let that one end its rollout, or remove the annotation and clear the task"
        ) from None
