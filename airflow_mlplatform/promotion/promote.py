"""Promotion as compare-and-set: the champion's alias moves only if it is where the verdict saw it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_mlplatform.clients.http import drive
from airflow_mlplatform.exceptions import CheckFailed, PromotionConflict, ServiceUnavailable
from airflow_mlplatform.promotion.evidence import PRODUCTION, champion_of
from airflow_mlplatform.promotion.lock import AliasLock
from airflow_mlplatform.promotion.marks import PROMOTED_AT, PROMOTED_BY, previous_alias, rolled_back

if TYPE_CHECKING:
    from airflow_mlplatform.clients.mlflow import MlflowClient, ModelVersion
    from airflow_mlplatform.promotion.verdict import ComparedVersion, Verdict

__all__ = ["Promotion", "promote"]


@dataclass(frozen=True)
class Promotion:
    """What happened.

    :param version: the champion, as the registry has it.
    :param former: the number of the champion before; ``None`` if this is the first.
    :param moved: whether this call moved the alias; not if a former try had done so.
    """

    version: ModelVersion
    former: int | None
    moved: bool


def promote(client: MlflowClient, verdict: Verdict, owner: str) -> Promotion:
    """Make the verdict's candidate the champion; doing it twice is doing it once.

    :param client: the registry.
    :param verdict: what was compared, and that it may be promoted.
    :param owner: who promotes, the same for every try of a task.
    :raises CheckFailed: if the verdict is not a yes.
    :raises PromotionConflict: if the champion is another than the one compared, or the candidate was rolled back since.
    :raises NotFound: if the candidate's version has been deleted.
    """
    candidate = _candidate(verdict)
    lock = AliasLock(client, verdict.model.name, verdict.model.champion, owner)
    with lock.held():
        moved = _compare_and_set(client, verdict, candidate, lock)
    version = client.get_model_version(candidate.name, candidate.version)
    if PROMOTED_AT not in version.tags or moved:
        client.set_model_version_tag(candidate.name, candidate.version, PROMOTED_BY, owner)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        client.set_model_version_tag(candidate.name, candidate.version, PROMOTED_AT, now)
    if verdict.model.candidates and verdict.model.candidates.stage and version.stage != PRODUCTION:
        client.move_to_stage(candidate.name, candidate.version, PRODUCTION)
    return Promotion(version, verdict.champion.version if verdict.champion else None, moved)


def _candidate(verdict: Verdict) -> ComparedVersion:
    if verdict.candidate is None or verdict.outcome not in ("promote", "already"):
        raise CheckFailed(f"{verdict.summary}\nNothing is promoted; only what the sensor lets through can be.")
    return verdict.candidate


def _compare_and_set(client: MlflowClient, verdict: Verdict, candidate: ComparedVersion, lock: AliasLock) -> bool:
    model, compared = verdict.model, verdict.champion.version if verdict.champion else None
    now = _champion(client, verdict)
    if now not in (compared, candidate.version):
        raise PromotionConflict(_conflict(verdict, candidate, now))
    why = rolled_back(client.get_model_version(candidate.name, candidate.version).tags)
    if why and now != candidate.version:
        raise PromotionConflict(f"{candidate.name} version {candidate.version}: {why}")
    if compared is not None and compared != candidate.version:
        client.set_alias(model.name, previous_alias(model.champion), compared)
    if now == candidate.version:
        return False
    if not lock.mine():
        raise ServiceUnavailable(f"promotion of {model.name} took so long that its lock was taken over; try again")
    client.set_alias(model.name, model.champion, candidate.version)
    now = _champion(client, verdict)
    if now != candidate.version:
        raise PromotionConflict(_conflict(verdict, candidate, now))
    return True


def _champion(client: MlflowClient, verdict: Verdict) -> int | None:
    version = drive(champion_of(verdict.model), client.http)
    return version.version if version else None


def _conflict(verdict: Verdict, candidate: ComparedVersion, now: int | None) -> str:
    def show(version: int | None) -> str:
        return f"version {version}" if version else "nobody"

    compared = verdict.champion.version if verdict.champion else None
    return (
        f"{verdict.model.name}: the alias {verdict.model.champion!r} is on {show(now)} now; "
        f"version {candidate.version} was compared with {show(compared)}. "
        f"Nothing is promoted; run the DAG again to compare with {show(now)}."
    )
