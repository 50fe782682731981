"""Back to the former champion, another number of servers, or none: in the triggerer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed, ServiceUnavailable
from airflow_mlplatform.hooks.mlflow import MlflowHook
from airflow_mlplatform.promotion.rollback import plan_rollback, roll_back
from airflow_mlplatform.serving.plan import RolloutPlan
from airflow_mlplatform.serving.predictor import CANDIDATE
from airflow_mlplatform.serving.rolling import Rolling
from airflow_mlplatform.serving.state import outcome_of, state_of
from airflow_mlplatform.serving.wished import Named, Remaining, Rescaled
from airflow_mlplatform.specs.arguments import read_argument
from airflow_mlplatform.specs.deployment import ModelRef, Rollout
from airflow_mlplatform.triggers.seldon_deploy import model_plan, resolve, version_url
from airflow_mlplatform.triggers.seldon_task import SeldonPlan, SeldonTask, who_is
from airflow_mlplatform.triggers.task import leave

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_mlplatform.clients.mlflow import MlflowClient
    from airflow_mlplatform.promotion.rollback import Rollback
    from airflow_mlplatform.serving.plan import Resource
    from airflow_mlplatform.serving.rolling import Around
    from airflow_mlplatform.serving.state import Outcome
    from airflow_mlplatform.specs.deployment import Serving
    from airflow_mlplatform.training.provenance import Provenance

__all__ = ["SeldonRollbackTrigger", "SeldonScaleTrigger", "SeldonTeardownTrigger"]


class SeldonRollbackTrigger(SeldonTask):
    """Goes one step back.

    A rollout that is under way, or an A/B test that stays, ends with what served before. If there is none, the former
    champion is served, and then is the champion again.

    :param model: JSON of ``ModelRef``. Templated.
    """

    arguments = ("serving", "model", "plan", "origin", "only_if")

    def __init__(
        self,
        serving: dict[str, Any],
        model: dict[str, Any],
        plan: dict[str, Any],
        origin: dict[str, Any] | None = None,
        only_if: str = "yes",
    ) -> None:
        super().__init__(serving, plan, origin, only_if)
        self.model = model

    async def work(self, origin: Provenance) -> dict[str, Any]:
        """Go back and return the facts."""
        serving = self.meant()
        async with self.around(serving, origin) as around:
            unfinished = _unfinished(around, origin, serving)
            if unfinished is not None:
                outcome = await Rolling(unfinished, around).run()
            else:
                outcome = await self._former_champion(around, origin, serving)
            url = self.url(serving, around)
        return await self.tell(origin, serving, outcome, url)

    async def wanted(
        self, serving: Serving, name: str, version: int, origin: Provenance, hook: MlflowHook
    ) -> RolloutPlan:
        """Return how a version is served again."""
        model = await resolve({"name": name, "version": version}, hook)
        return model_plan(serving, Rollout(), model, origin, action="rollback")

    async def _former_champion(self, around: Around, origin: Provenance, serving: Serving) -> Outcome:
        """Serve the former champion; only then does the alias move."""
        hook, owner = MlflowHook(self.read_plan(SeldonPlan).mlflow_conn_id or None), origin.name
        ref = read_argument(ModelRef, "model", self.model)
        planned = await _registry(hook, lambda client: plan_rollback(client, ref, owner))
        await self.tell_version(origin, version_url(hook, ref.name, planned.back_to))
        wanted = await self.wanted(serving, ref.name, planned.back_to, origin, hook)
        outcome = await Rolling(wanted, around).run()
        if outcome.result in ("done", "unchanged"):
            await _registry(hook, lambda client: roll_back(client, ref, owner))
            self.log.info("%s version %s is the champion again", ref.name, planned.back_to)
        return outcome


class SeldonScaleTrigger(SeldonTask):
    """Gives the servers of each predictor another number; the next deployment brings back that of its spec.

    :cvar rescaled: what makes the resource in another number.
    :param replicas: how many. Templated.
    """

    rescaled: ClassVar[type[Rescaled]] = Rescaled
    arguments = ("serving", "replicas", "plan", "origin", "only_if")

    def __init__(
        self,
        serving: dict[str, Any],
        replicas: int | str,
        plan: dict[str, Any],
        origin: dict[str, Any] | None = None,
        only_if: str = "yes",
    ) -> None:
        super().__init__(serving, plan, origin, only_if)
        self.replicas = replicas

    async def work(self, origin: Provenance) -> dict[str, Any]:
        """Scale and return the facts."""
        serving, replicas = self.meant(), _whole(self.replicas)
        async with self.around(serving, origin) as around:
            if around.live is None:
                raise ConfigurationError(f"{serving.namespace}/{serving.name} is not there; deploy a model first")
            wanted = RolloutPlan(
                resource=self.rescaled(lambda: around.live, replicas),
                rollout=Rollout(),
                ready_timeout=serving.ready_timeout,
                who=who_is(origin),
                action="scale",
            )
            outcome = await Rolling(wanted, around).run()
            url = self.url(serving, around)
        return {**await self.tell(origin, serving, outcome, url), "replicas": replicas}


class SeldonTeardownTrigger(SeldonTask):
    """Removes a SeldonDeployment and waits until its pods have gone; a rollout that is under way there stops."""

    async def work(self, origin: Provenance) -> dict[str, Any]:
        """Remove it and return the facts."""
        serving = self.meant()
        async with self.around(serving, origin) as around:
            there = around.live
            if there is not None:
                try:
                    await around.remove(there["metadata"]["uid"])
                except ServiceUnavailable as error:
                    raise ProcessFailed(f"{error}; a retry goes on") from error
        self.log.info("%s/%s %s", serving.namespace, serving.name, "is removed" if there else "was not there")
        result = {"name": serving.name, "namespace": serving.namespace, "result": "removed" if there else "unchanged"}
        await leave(origin, result)
        return result


def _unfinished(around: Around, origin: Provenance, serving: Serving) -> RolloutPlan | None:
    """Return the way back from what is not finished there; ``None`` if all is."""
    live, who = around.live, who_is(origin)
    state, outcome = state_of(live), outcome_of(live)
    resource: Resource = Named(serving.name, serving.namespace)
    ended = outcome is not None and outcome.who == who and not outcome.version
    if live is None or not (ended or state):
        names = [one["name"] for one in ((live or {}).get("spec") or {}).get("predictors") or ()]
        if live is None or CANDIDATE not in names or len(names) == 1:
            return None
        resource = Remaining(lambda: around.live)
    elif state and state.who.id == who.id:
        if state.version and not state.abort:
            return None
        resource = Remaining(lambda: around.live) if not state.abort else resource
    return RolloutPlan(resource, Rollout(), serving.ready_timeout, who, action="rollback")


async def _registry(hook: MlflowHook, ask: Callable[[MlflowClient], Rollback]) -> Rollback:
    await hook.aconnection()

    def asked() -> Rollback:
        with hook.client() as client:
            return ask(client)

    try:
        return await asyncio.to_thread(asked)
    except ServiceUnavailable as error:
        raise ProcessFailed(f"{error}; a retry goes on") from error


def _whole(replicas: int | str) -> int:
    text = str(replicas).strip()
    if not text.isdigit():
        raise ConfigurationError(f"replicas is {text!r:.50}; give a whole number, 0 or more")
    return int(text)
