"""Back to the champion before: the alias returns to the version that ``previous-<champion>`` names, and no further.

What is meant is written down first, as the tag ``mlplatform.rollback.<champion>`` of the registered model, so that the
retry of a task that died anywhere does the same and nothing more. The version that was left bears the alias
``rolled-back-<champion>`` and a tag for which the gate refuses it; ``previous-<champion>`` goes, so that a second
rollback is refused instead of bringing the bad version back.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_mlplatform.exceptions import ConfigurationError, NotFound, PromotionConflict, ServiceUnavailable
from airflow_mlplatform.promotion.evidence import PRODUCTION
from airflow_mlplatform.promotion.lock import AliasLock
from airflow_mlplatform.promotion.marks import (
    PROMOTED_BY,
    ROLLED_BACK_AT,
    ROLLED_BACK_BY,
    previous_alias,
    rolled_back_alias,
)

if TYPE_CHECKING:
    from airflow_mlplatform.clients.mlflow import MlflowClient, ModelVersion, RegisteredModel
    from airflow_mlplatform.specs.deployment import ModelRef

__all__ = ["Rollback", "plan_rollback", "roll_back"]


class Rollback(BaseModel):
    """A rollback of the champion's alias.

    :param owner: who rolls back, the same for every try of a task.
    :param leaves: number of the version that was the champion.
    :param back_to: number of the version that is to be it again.
    :param done: whether the alias has moved.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    owner: str
    leaves: int
    back_to: int
    done: bool = False


def plan_rollback(client: MlflowClient, model: ModelRef, owner: str) -> Rollback:
    """Decide what a rollback goes back to, and write that down; no alias moves. The same owner gets the same answer.

    For those who bring the former version into service before its alias moves; :func:`roll_back` alone will do else.

    :param client: the registry.
    :param model: the registered model and its aliases.
    :param owner: who rolls back, the same for every try of a task.
    :raises ConfigurationError: if there is nothing to go back to.
    """
    with AliasLock(client, model.name, model.champion, owner).held():
        return _plan(client, model, owner)


def roll_back(client: MlflowClient, model: ModelRef, owner: str) -> Rollback:
    """Give the champion's alias back to the champion before; doing it twice is doing it once.

    :param client: the registry.
    :param model: the registered model and its aliases.
    :param owner: who rolls back, the same for every try of a task, and as in :func:`plan_rollback`.
    :raises ConfigurationError: if there is nothing to go back to.
    :raises PromotionConflict: if the champion is another than when this rollback was planned.
    """
    lock = AliasLock(client, model.name, model.champion, owner)
    with lock.held():
        planned = _plan(client, model, owner)
        found = client.get_registered_model(model.name)
        now = found.aliases.get(model.champion)
        if now not in ((planned.back_to,) if planned.done else (planned.leaves, planned.back_to)):
            raise PromotionConflict(_conflict(model, planned, now))
        if not planned.done:
            _move(client, model, planned, lock)
    return planned.model_copy(update={"done": True})


def _plan(client: MlflowClient, model: ModelRef, owner: str) -> Rollback:
    found = _registered(client, model)
    noted = _noted(found, model)
    if noted and noted.owner == owner:
        return noted
    champion, previous = found.aliases.get(model.champion), found.aliases.get(previous_alias(model.champion))
    if champion is None or previous in (None, champion):
        raise ConfigurationError(_nothing(model, found))
    planned = Rollback(owner=owner, leaves=champion, back_to=int(previous or 0))
    _note(client, model, planned)
    return planned


def _move(client: MlflowClient, model: ModelRef, planned: Rollback, lock: AliasLock) -> None:
    _mark(client, client.get_model_version(model.name, planned.leaves), planned.owner)
    client.set_alias(model.name, rolled_back_alias(model.champion), planned.leaves)
    if not lock.mine():
        raise ServiceUnavailable(f"rollback of {model.name} took so long that its lock was taken over; try again")
    client.set_alias(model.name, model.champion, planned.back_to)
    client.set_model_version_tag(model.name, planned.back_to, PROMOTED_BY, planned.owner)
    client.delete_model_version_tags(model.name, planned.back_to, (ROLLED_BACK_AT, ROLLED_BACK_BY))
    client.delete_alias(model.name, previous_alias(model.champion))
    if model.candidates and model.candidates.stage:
        client.move_to_stage(model.name, planned.back_to, PRODUCTION)
    _note(client, model, planned.model_copy(update={"done": True}))


def _mark(client: MlflowClient, version: ModelVersion, owner: str) -> None:
    if ROLLED_BACK_AT not in version.tags:
        client.set_model_version_tag(version.name, version.version, ROLLED_BACK_BY, owner)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        client.set_model_version_tag(version.name, version.version, ROLLED_BACK_AT, now)


def _registered(client: MlflowClient, model: ModelRef) -> RegisteredModel:
    try:
        return client.get_registered_model(model.name)
    except NotFound:
        raise ConfigurationError(
            f"MLflow has no registered model {model.name!r}, so there is nothing to go back to; correct the name"
        ) from None


def _tag(model: ModelRef) -> str:
    return f"mlplatform.rollback.{model.champion}"


def _note(client: MlflowClient, model: ModelRef, planned: Rollback) -> None:
    client.set_registered_model_tag(model.name, _tag(model), planned.model_dump_json())


def _noted(found: RegisteredModel, model: ModelRef) -> Rollback | None:
    try:
        return Rollback.model_validate_json(found.tags.get(_tag(model), ""))
    except ValidationError:
        return None


def _nothing(model: ModelRef, found: RegisteredModel) -> str:
    champion, previous = found.aliases.get(model.champion), previous_alias(model.champion)
    if champion is None:
        why = f"no version bears the alias {model.champion!r}"
    elif previous not in found.aliases:
        why = f"version {champion} is the champion and no version bears the alias {previous!r}"
    else:
        why = f"version {champion} bears both aliases, {model.champion!r} and {previous!r}"
    return (
        f"{model.name}: there is nothing to go back to: {why}. "
        f"Give a good version the alias {previous!r} in MLflow, then clear the task"
    )


def _conflict(model: ModelRef, planned: Rollback, now: int | None) -> str:
    where = f"version {now}" if now else "nobody"
    return (
        f"{model.name}: the alias {model.champion!r} is on {where} now, and this rollback was to lead from version "
        f"{planned.leaves} to version {planned.back_to}. Nothing moves; trigger a new rollback if one is still wanted."
    )
