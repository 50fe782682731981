"""Rollouts on a real cluster: what serves on the way and in the end, by real pods, routes and metrics."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_mlplatform.exceptions import ProcessFailed
from airflow_mlplatform.serving.manifest import SeldonManifest
from airflow_mlplatform.serving.model import ServableModel
from airflow_mlplatform.serving.plan import RolloutPlan
from airflow_mlplatform.serving.rolling import Rolling
from airflow_mlplatform.serving.state import OUTCOME, STATE, Outcome, Who
from airflow_mlplatform.specs.deployment import Rollout, Serving
from airflow_mlplatform.triggers.seldon_cluster import Place, open_around
from tests.cluster.seldon_parts import GRAPH, SDEPS, SeldonParts
from tests.waiting import wait_for

Json = dict[str, Any]

ERRORS = {"name": "errors", "metric": "error-rate", "max": 0.05, "min_samples": 5}
CANARY = {
    "strategy": "canary",
    "steps": [25, 100],
    "interval": "8s",
    "check_every": "3s",
    "failures": 1,
    "analysis": [ERRORS],
}


@pytest.fixture(autouse=True)
def reached(seldon: SeldonParts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Airflow's hooks reach the cluster and Prometheus."""
    monkeypatch.setenv("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False")
    monkeypatch.setenv("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", os.environ["KUBECONFIG"])
    prometheus = {"conn_type": "prometheus", "host": seldon.prometheus_url}
    monkeypatch.setenv("AIRFLOW_CONN_PROMETHEUS_DEFAULT", json.dumps(prometheus))


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
        who = Who(id=task, attempt=more.pop("attempt", 1), dag_id="wine", run_id=task, task_id="deploy")
        return RolloutPlan(
            resource=SeldonManifest(serving, servable),
            rollout=Rollout.model_validate(rollout or {}, strict=False),
            ready_timeout=serving.ready_timeout,
            who=who,
            model="wine",
            version=model,
            **more,
        )

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

    def whole(self) -> Json:
        """All of the resource that must be as it was after an abort."""
        live = self.resource
        notes = {key: value for key, value in live["metadata"]["annotations"].items() if key != OUTCOME}
        return {"spec": live["spec"], "labels": live["metadata"]["labels"], "annotations": notes}


@pytest.fixture
def endpoint(seldon: SeldonParts) -> Iterator[Endpoint]:
    """A name on which nothing serves yet."""
    name = seldon.name()
    yield Endpoint(seldon, name)
    seldon.delete(name)


@pytest.fixture
def serving(endpoint: Endpoint) -> Endpoint:
    """An endpoint on which a good model serves."""
    assert endpoint.rolled("good", task="first").result == "done"
    wait_for(lambda: endpoint.seldon.ask(endpoint.name).status_code == 200, "until the gateway knows it")
    return endpoint


def test_a_canary_gets_its_share_by_steps_and_then_all(serving: Endpoint) -> None:
    with serving.seldon.load(serving.name, rate=20) as load:
        outcome = serving.rolled("better", CANARY)
        wait_for(lambda: "better" in serving.seldon.ask(serving.name).text, "until better answers")
    assert (outcome.result, outcome.former_version, outcome.version) == ("done", "good", "better")
    assert outcome.steps[:3] == ("25 %", "100 %", "new model behind the former name")
    assert set(load.codes()) == {200}
    assert [one["name"] for one in serving.resource["spec"]["predictors"]] == ["main"]
    assert STATE not in serving.resource["metadata"]["annotations"]
    assert serving.rolled("better", CANARY, task="b").result == "unchanged"


def test_bad_metrics_bring_back_exactly_what_served(serving: Endpoint) -> None:
    before = serving.whole()
    with serving.seldon.load(serving.name, rate=30):
        outcome = serving.rolled("failing", {**CANARY, "interval": "30s"})
    assert (outcome.result, outcome.lasting) == ("aborted", True)
    assert "errors" in outcome.why
    assert serving.whole() == before
    wait_for(lambda: len(serving.seldon.deployments(serving.name)) == 1, "until the candidate has gone")


@pytest.mark.parametrize("model", ["crashing", "missing"])
def test_servers_that_do_not_come_up_change_nothing(serving: Endpoint, model: str) -> None:
    before = serving.whole()
    outcome = serving.rolled(model, CANARY)
    assert outcome.result == "aborted"
    assert "candidate" in outcome.why
    assert serving.whole() == before


def test_no_traffic_is_a_verdict_of_its_own(serving: Endpoint) -> None:
    before = serving.whole()
    outcome = serving.rolled("better", CANARY)
    assert outcome.result == "aborted"
    assert "too little traffic" in outcome.why
    assert serving.whole() == before


def test_an_operator_that_is_away_is_waited_for(serving: Endpoint) -> None:
    serving.seldon.operator.stop()
    try:
        with pytest.raises(ProcessFailed, match="retry goes on"):
            serving.rolled("better", ready_timeout="8s")
    finally:
        serving.seldon.operator.start()
    assert serving.rolled("better", attempt=2).result == "done"


def test_what_a_person_changes_stays(serving: Endpoint) -> None:
    async def edited() -> Outcome:
        rolling = asyncio.create_task(serving.roll(serving.plan("better", {**CANARY, "interval": "10m"})))
        await asyncio.to_thread(wait_for, lambda: len(serving.resource["spec"]["predictors"]) == 2, "a canary")
        change = '[{"op": "replace", "path": "/spec/predictors/0/traffic", "value": 60}, '
        change += '{"op": "replace", "path": "/spec/predictors/1/traffic", "value": 40}]'
        serving.seldon.kubectl("patch", SDEPS, serving.name, "--type=json", "-p", change)
        return await rolling

    outcome = asyncio.run(edited())
    assert outcome.result == "stopped"
    assert "kubectl-patch" in outcome.why
    assert "from 75 to 60" in outcome.why
    assert [one["traffic"] for one in serving.resource["spec"]["predictors"]] == [60, 40]
