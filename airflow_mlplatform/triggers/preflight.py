"""A model that answers its own input example in the servers that will serve it, asked by the triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import CheckFailed, ConfigurationError, MlplatformError, ProcessFailed
from airflow_mlplatform.hooks.mlflow import MlflowHook
from airflow_mlplatform.hooks.seldon import open_seldon
from airflow_mlplatform.serving.throwaway import ThrowAway, throwaway_name
from airflow_mlplatform.specs.arguments import read_argument
from airflow_mlplatform.specs.deployment import Serving
from airflow_mlplatform.triggers.model_files import read_card
from airflow_mlplatform.triggers.outages import Outages
from airflow_mlplatform.triggers.seldon_deploy import resolve, version_url
from airflow_mlplatform.triggers.seldon_task import SeldonPlan, SeldonTask, value_of
from airflow_mlplatform.triggers.task import leave
from airflow_mlplatform.triggers.throwaway import LOOKS, Trial, remove

if TYPE_CHECKING:
    from airflow_mlplatform.steps.preflight import ModelCard
    from airflow_mlplatform.training.provenance import Provenance

__all__ = ["PreflightPlan", "PreflightTrigger"]


class PreflightPlan(SeldonPlan):
    """What of a preflight is fixed while its DAG is built.

    :param answer_seconds: time that the answer may take.
    """

    answer_seconds: float = 60.0


class PreflightTrigger(SeldonTask):
    """Makes a throw-away SeldonDeployment, waits for it, asks it, removes it and ends the task.

    Where it goes wrong, a worker ends the task. What a dead triggerer left is gone on with by the next one, and removed
    in the end; what no task comes back to bears a date after which any other preflight of the namespace removes it.

    :param serving: see :class:`~airflow_mlplatform.triggers.seldon_task.SeldonTask`.
    :param model: what :func:`~airflow_mlplatform.serving.model.find_model` takes, or the task that returns it.
        Templated.
    :param plan: JSON of :class:`PreflightPlan`.
    """

    arguments = ("serving", "model", "plan", "origin", "only_if")

    def __init__(
        self,
        serving: dict[str, Any],
        model: Any,
        plan: dict[str, Any],
        origin: dict[str, Any] | None = None,
        only_if: str = "yes",
    ) -> None:
        super().__init__(serving, plan, origin, only_if)
        self.model = model

    async def work(self, origin: Provenance) -> dict[str, Any]:
        """Try the model and return what came of it."""
        serving, plan = self.meant(), self.read_plan(PreflightPlan)
        hook = MlflowHook(plan.mlflow_conn_id or None)
        model = await resolve(await value_of(self.model, origin), hook)
        card = await read_card(model, hook, self.log)
        if model.name:
            await self.tell_version(origin, version_url(hook, model.name, model.version))
        try:
            predictions, seconds = await self._tried(ThrowAway(serving, model, origin.key), card, plan)
        except CheckFailed as error:
            raise ConfigurationError(f"{model} fails its preflight: {error}") from error
        except ProcessFailed as error:
            raise ProcessFailed(f"the preflight of {model} did not come to an end: {error}") from error
        self.log.info("%s answers its input example with %s predictions in %.3f s", model, predictions, seconds)
        told = {"model": model.name, "version": model.version}
        result = told | {"predictions": predictions, "seconds": round(seconds, 3)}
        await leave(origin, result)
        return result

    async def stop(self, reason: str) -> None:
        """Remove the throw-away."""
        self.log.warning("Removing the throw-away: %s", reason)
        origin, serving = await self.prepare(), read_argument(Serving, "serving", self.serving)
        async with open_seldon(serving.namespace, self.read_plan(PreflightPlan).kubernetes_conn_id) as cluster:
            await remove(cluster, throwaway_name(serving, origin.key), origin.key, Outages(LOOKS, self.log))

    async def _tried(self, thrown: ThrowAway, card: ModelCard, plan: PreflightPlan) -> tuple[int | None, float]:
        async with open_seldon(thrown.serving.namespace, plan.kubernetes_conn_id) as cluster:
            outages = Outages(LOOKS, self.log)
            try:
                found = await Trial(cluster, thrown, card, self.log).run(plan.answer_seconds)
            except MlplatformError:
                # Not when this triggerer is stopped: the next one goes on with it.
                await remove(cluster, thrown.name, thrown.owner, outages)
                raise
            await remove(cluster, thrown.name, thrown.owner, outages)
        return found
