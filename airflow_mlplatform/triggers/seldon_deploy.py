"""A model rolled out on Seldon Core, from its first step to its last, in the triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from pydantic import Field

from airflow_mlplatform.clients.http import drive_async
from airflow_mlplatform.exceptions import ProcessFailed, ServiceUnavailable
from airflow_mlplatform.hooks.mlflow import MlflowHook
from airflow_mlplatform.serving.manifest import SeldonManifest
from airflow_mlplatform.serving.model import find_model
from airflow_mlplatform.serving.plan import RolloutPlan, read_answer
from airflow_mlplatform.serving.predictor import PREFIX
from airflow_mlplatform.serving.rolling import Rolling
from airflow_mlplatform.specs.arguments import read_argument
from airflow_mlplatform.specs.deployment import Rollout
from airflow_mlplatform.triggers.seldon_task import SeldonPlan, SeldonTask, value_of, who_is

if TYPE_CHECKING:
    from airflow_mlplatform.serving.model import ServableModel
    from airflow_mlplatform.serving.state import Outcome
    from airflow_mlplatform.specs.deployment import Serving
    from airflow_mlplatform.training.provenance import Provenance

__all__ = [
    "SeldonDeployPlan",
    "SeldonDeployTrigger",
    "model_plan",
    "resolve",
    "version_url",
]


class SeldonDeployPlan(SeldonPlan):
    """What of a deployment is fixed while its DAG is built.

    :param rollout: JSON of ``Rollout``.
    :param resumes: task that began the rollout and ended at its pause; empty if this one begins it.
    """

    rollout: dict[str, Any] = Field(default_factory=dict)
    resumes: str = ""


class SeldonDeployTrigger(SeldonTask):
    """Finds the model, rolls it out step by step and ends the task.

    Where it goes wrong, a worker ends the task. What a dead triggerer left behind is found and continued.

    :param serving: see :class:`~airflow_mlplatform.triggers.seldon_task.SeldonTask`.
    :param model: what :func:`~airflow_mlplatform.serving.model.find_model` takes, or the task that returns it.
        Templated.
    :param answer: what people said at the pause, or the task that returns it. Templated.
    :param plan: JSON of :class:`SeldonDeployPlan`.
    """

    arguments: ClassVar[tuple[str, ...]] = ("serving", "model", "answer", "plan", "origin", "only_if")

    def __init__(
        self,
        serving: dict[str, Any],
        model: Any,
        plan: dict[str, Any],
        answer: Any = None,
        origin: dict[str, Any] | None = None,
        only_if: str = "yes",
    ) -> None:
        super().__init__(serving, plan, origin, only_if)
        self.model = model
        self.answer = answer

    async def work(self, origin: Provenance) -> dict[str, Any]:
        """Roll out and return the facts."""
        serving, outcome, url = await self.roll_out(origin)
        if outcome.result == "kept":
            self.plan = {**self.plan, "by_worker": True}
        return await self.tell(origin, serving, outcome, url)

    async def roll_out(self, origin: Provenance) -> tuple[Serving, Outcome, str]:
        """Roll out until it has ended, well or not.

        :return: what was asked for, how it ended, and where the model answers within the cluster.
        """
        serving, plan = self.meant(), self.read_plan(SeldonDeployPlan)
        rollout = read_argument(Rollout, "rollout", plan.rollout)
        hook = MlflowHook(plan.mlflow_conn_id or None)
        model = await resolve(await value_of(self.model, origin), hook)
        if model.name:
            await self.tell_version(origin, version_url(hook, model.name, model.version))
        answer = read_answer(await value_of(self.answer, origin))
        wanted = model_plan(serving, rollout, model, origin, resumes=plan.resumes, answer=answer)
        async with self.around(serving, origin, rollout) as around:
            outcome = await Rolling(wanted, around).run()
            url = self.url(serving, around)
        return serving, outcome, url


def model_plan(
    serving: Serving, rollout: Rollout, model: ServableModel, origin: Provenance, **more: Any
) -> RolloutPlan:
    """Return the plan of a rollout of a model.

    :param more: ``resumes``: the task that began it; further arguments of the plan.
    """
    who = who_is(origin, more.pop("resumes", ""))
    resource = SeldonManifest(serving, model, {f"{PREFIX}/dag_run": f"{who.dag_id} / {who.run_id}"})
    return RolloutPlan(
        resource=resource,
        rollout=rollout,
        ready_timeout=serving.ready_timeout,
        who=who,
        main=resource.main,
        model=model.name,
        version=model.version,
        **more,
    )


def version_url(hook: MlflowHook, name: str, version: str | int) -> str:
    """Return the page of a model version; its connection must have been looked up."""
    return f"{hook.ui_url}/#/models/{quote(name, safe='')}/versions/{version}"


async def resolve(value: Any, hook: MlflowHook) -> ServableModel:
    """Ask MLflow which model is meant.

    :raises ConfigurationError: if none is.
    :raises ProcessFailed: if MLflow does not answer.
    """
    try:
        async with await hook.async_client() as client:
            return await drive_async(find_model(value), client.http)
    except ServiceUnavailable as error:
        raise ProcessFailed(f"{error}; nothing was changed") from error
