"""What the registry and the tracking server say about candidate and champion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlplatform.clients import mlflow_operations as mlflow
from airflow_mlplatform.exceptions import NotFound
from airflow_mlplatform.promotion.judge import Contender

if TYPE_CHECKING:
    from airflow_mlplatform.clients.http import Operation
    from airflow_mlplatform.specs.deployment import ModelRef

__all__ = ["contender", "evidence"]


def evidence(model: ModelRef) -> Operation[tuple[Contender | None, Contender | None]]:
    """Return candidate and champion; ``None`` where nobody bears the alias.

    :raises ServiceError: if MLflow is away or refuses to answer.
    """
    candidate = yield from contender(model.name, model.candidate)
    champion = yield from contender(model.name, model.champion)
    return candidate, champion


def contender(name: str, alias: str) -> Operation[Contender | None]:
    """Return the version that bears an alias, with the run that made it if that still exists."""
    version = yield from mlflow.get_version_by_alias(name, alias)
    if version is None:
        return None
    try:
        run = (yield from mlflow.get_run(version.run_id)) if version.run_id else None
    except NotFound:
        run = None
    return Contender(version, run)
