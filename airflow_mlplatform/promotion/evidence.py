"""What the registry and the tracking server say about candidates and champion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlplatform.clients import mlflow_operations as tracking
from airflow_mlplatform.clients import mlflow_registry as registry
from airflow_mlplatform.exceptions import NotFound
from airflow_mlplatform.promotion.judge import Contender

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from airflow_mlplatform.clients.http import Operation
    from airflow_mlplatform.clients.mlflow_entities import ModelVersion
    from airflow_mlplatform.specs.deployment import Candidates, Gate, ModelRef

__all__ = ["PRODUCTION", "champion_of", "evidence"]

PRODUCTION = "Production"
"""The stage whose version is the champion of a registry that works with stages, until an alias says who is."""


def evidence(model: ModelRef, gate: Gate, now: datetime) -> Operation[tuple[tuple[Contender, ...], Contender | None]]:
    """Return the candidates, newest first, and the champion, ``None`` where nobody is.

    A candidate that is older than the gate allows is left out, unless there is no other.

    :param now: the time, with its zone.
    :raises ServiceError: if MLflow is away or refuses to answer.
    """
    champion = yield from champion_of(model)
    versions = yield from _versions(model)
    young = [one for one in versions if gate.max_age is None or now - one.creation_time <= gate.max_age]
    candidates: list[Contender] = []
    for version in young or versions[:1]:
        contender = yield from _contender(version)
        candidates.append(contender)
    return tuple(candidates), (yield from _contender(champion)) if champion else None


def champion_of(model: ModelRef) -> Operation[ModelVersion | None]:
    """Return the version that is served: who bears the alias, or else, where stages are used, who is in Production."""
    champion = yield from registry.get_version_by_alias(model.name, model.champion)
    if champion is None and model.candidates and model.candidates.stage:
        versions = yield from registry.search_model_versions(model.name)
        return next((version for version in versions if version.stage == PRODUCTION), None)
    return champion


def _versions(model: ModelRef) -> Operation[list[ModelVersion]]:
    if model.candidates is None:
        version = yield from registry.get_version_by_alias(model.name, model.candidate)
        return [version] if version else []
    return _matching((yield from registry.search_model_versions(model.name)), model.candidates)


def _matching(versions: Iterable[ModelVersion], asked: Candidates) -> list[ModelVersion]:
    return [
        version
        for version in versions
        if asked.tags.items() <= version.tags.items() and asked.stage in (None, version.stage)
    ]


def _contender(version: ModelVersion) -> Operation[Contender]:
    try:
        run = (yield from tracking.get_run(version.run_id)) if version.run_id else None
    except NotFound:
        run = None
    return Contender(version, run)
