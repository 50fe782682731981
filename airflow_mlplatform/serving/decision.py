"""What a rollout is decided upon, and what it decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from airflow_mlplatform.serving.analysis import Choice, Judgement
    from airflow_mlplatform.serving.ready import Readiness
    from airflow_mlplatform.serving.state import Outcome, Who

__all__ = ["Apply", "Decision", "Ended", "Finish", "Look", "Measured", "Need", "Remove", "Stalled", "Wait"]

Json = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """What the analysis found.

    :param judgement: what it came to; ``None`` if there was no answer.
    :param choice: who won an A/B test, where that was asked.
    :param silence: why there was no answer.
    :param mistake: what is wrong with the question, so that there never will be one.
    """

    judgement: Judgement | None = None
    choice: Choice | None = None
    silence: str = ""
    mistake: str = ""


@dataclass(frozen=True)
class Look:
    """What is known at one moment.

    :param live: the SeldonDeployment, as the API sent it; ``None`` if there is none.
    :param now: the moment.
    :param began: when the one who asks began to.
    :param known: whether that one has seen its own rollout on the resource.
    :param readiness: whether what was applied is there; ``None`` if nobody looked.
    :param unready: since when it has not been ready, not counting the time in which only those lacked that served
        before; ``None`` if it is.
    :param acted: whether the operator has taken notice of what was applied, as far as one can see.
    :param measured: what the analysis says now; ``None`` if nobody asked.
    :param measured_at: when it was last asked before; ``None`` if it was not.
    :param owner: whether the DAG run of the rollout that is under way goes on; ``None`` if nobody looked.
    :param dividing: whether somebody made sure that traffic can be divided here.
    :param refused: why the last write was refused; empty if it was not.
    :param removed: how a rollout ended whose resource was removed with all that it bears.
    """

    live: Json | None
    now: datetime
    began: datetime
    known: bool = False
    readiness: Readiness | None = None
    unready: datetime | None = None
    acted: bool = True
    measured: Measured | None = None
    measured_at: datetime | None = None
    owner: bool | None = None
    dividing: bool = False
    refused: str = ""
    removed: Outcome | None = None


@dataclass(frozen=True)
class Need:
    """Something else must be known first.

    :param what: ``readiness``; ``owner``: whether the DAG run ``who`` is of goes on; ``dividing``: that traffic can be
        divided; ``analysis``: of all since ``since``; ``winner``: the same, and who won.
    """

    what: Literal["readiness", "owner", "dividing", "analysis", "winner"]
    since: datetime | None = None
    who: Who | None = None


@dataclass(frozen=True)
class Apply:
    """Make the resource what the manifest says, if it is still as it was looked at."""

    manifest: Json
    account: str


@dataclass(frozen=True)
class Finish:
    """The same, and with it the rollout has ended."""

    manifest: Json
    outcome: Outcome


@dataclass(frozen=True)
class Remove:
    """Remove the resource; with it the rollout has ended."""

    outcome: Outcome


@dataclass(frozen=True)
class Wait:
    """Nothing is to be done until something changes.

    :param account: what is waited for.
    :param until: when to look again at the latest; ``None``: when something changes.
    """

    account: str
    until: datetime | None = None


@dataclass(frozen=True)
class Ended:
    """The rollout has ended."""

    outcome: Outcome


@dataclass(frozen=True)
class Stalled:
    """It gets no further, through nobody's fault that a rollback would mend; another try goes on from here."""

    why: str


Decision: TypeAlias = Need | Apply | Finish | Remove | Wait | Ended | Stalled
