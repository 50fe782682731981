"""A SeldonDeployment on which tests roll out models, as a trigger does."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.serving.manifest import SeldonManifest
from airflow_mlplatform.serving.model import ServableModel
from airflow_mlplatform.serving.plan import RolloutPlan
from airflow_mlplatform.serving.rolling import Rolling
from airflow_mlplatform.serving.state import OUTCOME, Outcome, RolloutState, Who, state_of
from airflow_mlplatform.serving.wished import Named
from airflow_mlplatform.specs.deployment import Rollout, Serving
from airflow_mlplatform.triggers.seldon_cluster import Place, open_around
from tests.cluster.seldon_parts import GRAPH
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.cluster.seldon_parts import SeldonParts

__all__ = ["Endpoint", "reach"]

Json = dict[str, Any]


def reach(monkeypatch: pytest.MonkeyPatch, prometheus: str) -> None:
    """Let Airflow's hooks reach the cluster and Prometheus.

    :param prometheus: where that is.
    """
    monkeypatch.setenv("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False")
    monkeypatch.setenv("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", os.environ["KUBECONFIG"])
    connection = {"conn_type": "prometheus", "host": prometheus}
    monkeypatch.setenv("AIRFLOW_CONN_PROMETHEUS_DEFAULT", json.dumps(connection))


def who_is(task: str, attempt: int = 1) -> Who:
    """Whose rollout it is."""
    return Who(id=task, attempt=attempt, dag_id="wine", run_id=task, task_id="deploy")


@dataclass(frozen=True)
class Endpoint:
    """One SeldonDeployment of a test.

    :param seldon: what is there.
    :param name: its name.
    """

    seldon: SeldonParts
    name: str

    def plan(self, model: str, rollout: Json | None = None, task: str = "a", **more: Any) -> RolloutPlan:
        """What is to be rolled out."""
        template = {"spec": {"predictors": [{"graph": {"name": GRAPH}}]}}
        timeout = more.pop("ready_timeout", "60s")
        serving = Serving.model_validate(
            {
                "name": self.name,
                "namespace": self.seldon.kubectl.namespace,
                "ready_timeout": timeout,
                "template": template,
                **more.pop("serving", {}),
            },
            strict=False,
        )
        servable = ServableModel(name="wine", version=model, uri=self.seldon.models[model].uri)
        return RolloutPlan(
            resource=SeldonManifest(serving, servable),
            rollout=Rollout.model_validate(rollout or {}, strict=False),
            ready_timeout=serving.ready_timeout,
            who=who_is(task, more.pop("attempt", 1)),
            model="wine",
            version=model,
            **more,
        )

    def way_back(self) -> RolloutPlan:
        """What a rollback wishes for while a rollout is under way."""
        named = Named(self.name, self.seldon.kubectl.namespace)
        return RolloutPlan(named, Rollout(), timedelta(minutes=1), who_is("rollback"), action="rollback")

    async def roll(self, wanted: RolloutPlan) -> Outcome:
        """Roll out, as a trigger does."""
        place = Place(self.seldon.kubectl.namespace, self.name)
        async with open_around(place, wanted.rollout, "", "", logging.getLogger(__name__)) as around:
            return await Rolling(wanted, around).run()

    def rolled(self, model: str, rollout: Json | None = None, **more: Any) -> Outcome:
        """Roll out and return how it ended."""
        return asyncio.run(self.roll(self.plan(model, rollout, **more)))

    @property
    def resource(self) -> Json:
        """The resource as it is."""
        return self.seldon.get(self.name)

    @property
    def state(self) -> RolloutState | None:
        """How far its rollout is."""
        return state_of(self.resource)

    @property
    def shares(self) -> list[int]:
        """How traffic is divided."""
        return [one["traffic"] for one in self.resource["spec"]["predictors"]]

    async def until(self, condition: Callable[[RolloutState], object], what: str) -> None:
        """Wait until its rollout has come so far."""
        await asyncio.to_thread(wait_for, lambda: (state := self.state) and condition(state), what)

    def whole(self) -> Json:
        """All of the resource that must be as it was after an abort."""
        live = self.resource
        notes = {key: value for key, value in live["metadata"]["annotations"].items() if key != OUTCOME}
        return {"spec": live["spec"], "labels": live["metadata"]["labels"], "annotations": notes}
