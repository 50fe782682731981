"""Back to the former champion, another number of servers, or none: on this machine, in the triggerer."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_mlplatform.runtime.serving import LocalServing
from airflow_mlplatform.serving.local import LocalRescaled, LocalResource
from airflow_mlplatform.serving.plan import RolloutPlan
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.deployment import Rollout
from airflow_mlplatform.triggers.local_rolling import LocalRolling
from airflow_mlplatform.triggers.local_rollout import look_around
from airflow_mlplatform.triggers.seldon_actions import (
    SeldonRollbackTrigger,
    SeldonScaleTrigger,
    SeldonTeardownTrigger,
)
from airflow_mlplatform.triggers.seldon_task import SeldonPlan, SeldonTask, airflow_of, who_is

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_mlplatform.hooks.mlflow import MlflowHook
    from airflow_mlplatform.runtime.serving_files import Servers
    from airflow_mlplatform.serving.rolling import Around
    from airflow_mlplatform.specs.deployment import Serving
    from airflow_mlplatform.training.provenance import Provenance

__all__ = ["LocalRollbackTrigger", "LocalScaleTrigger", "LocalTeardownTrigger"]


class OnThisMachine(SeldonTask):
    """What these tasks act upon here: the files of the front, instead of a SeldonDeployment."""

    def around(
        self, serving: Serving, origin: Provenance, rollout: Rollout | None = None
    ) -> AbstractAsyncContextManager[Around]:
        """Open the way to the endpoint."""
        return self._opened(serving, rollout or Rollout(), airflow_of(origin))

    @asynccontextmanager
    async def _opened(self, serving: Serving, rollout: Rollout, airflow: str) -> AsyncIterator[Around]:
        prometheus = self.read_plan(SeldonPlan).prometheus_conn_id
        yield await look_around(_local(), serving, rollout, airflow, prometheus, self.log)

    def url(self, serving: Serving, around: Around) -> str:
        """Return where the model answers; empty if nowhere."""
        return _local().url(serving.name) if around.live else ""


class LocalRollbackTrigger(OnThisMachine, SeldonRollbackTrigger):
    """One step back; see :class:`~airflow_mlplatform.triggers.seldon_actions.SeldonRollbackTrigger`."""

    async def wanted(
        self, serving: Serving, name: str, version: int, origin: Provenance, hook: MlflowHook
    ) -> RolloutPlan:
        """Return how a version is served again; its files are then on this machine."""
        servers = await asyncio.to_thread(_servers, serving, name, version, hook)
        await asyncio.to_thread(_local().ensure_front)
        return RolloutPlan(
            resource=LocalResource(serving, servers),
            rollout=Rollout(),
            ready_timeout=timedelta(seconds=servers.ready_timeout),
            who=who_is(origin),
            model=name,
            version=str(version),
            action="rollback",
        )


class LocalScaleTrigger(OnThisMachine, SeldonScaleTrigger):
    """Another number of servers, until the next deployment."""

    rescaled = LocalRescaled


class LocalTeardownTrigger(OnThisMachine, SeldonTeardownTrigger):
    """Removes an endpoint; a rollout that is under way there stops."""


def _local() -> LocalServing:
    return LocalServing(settings().state_dir, settings().serving_address)


def _servers(serving: Serving, name: str, version: int, hook: MlflowHook) -> Servers:
    with hook.client() as client:
        found = client.get_model_version(name, version)
    return LocalRolling(serving=serving, rollout=Rollout()).servers(found, hook)
