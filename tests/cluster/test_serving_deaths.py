"""Whoever dies in the middle of a deployment: it ends as an undisturbed one does, and no step is done twice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_mlplatform.demo.airflow_api import DagRun
from airflow_mlplatform.serving.predictor import MARK
from airflow_mlplatform.serving.throwaway import PURPOSE
from tests.cluster.platform import ClusterPlatform
from tests.cluster.proxy import Proxies
from tests.cluster.seldon_endpoint import Endpoint, reach
from tests.cluster.seldon_parts import GRAPH, SDEPS, SeldonParts
from tests.cluster.serving_platform import ServingPlatform, serving_platform

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

SPEC = """\
apiVersion: mlplatform/v1
kind: deployment
name: {name}
start: 2026-01-01
retries: {{count: 4, delay: 1s}}
model: {{name: {name}}}
serving:
  name: {name}
  namespace: {namespace}
  ready_timeout: 3m
  template: {{spec: {{predictors: [{{graph: {{name: {graph}}}}}]}}}}
rollout:
  strategy: canary
  steps: [5, 25, 50, 100]
  interval: 6s
  check_every: 3s
  no_traffic: wait
  analysis: [{{name: errors, metric: error-rate, max: 0.05}}]
  pause: {{after: 50, users: [admin], timeout: 1h}}
"""
PATIENCE = 900.0
DONE = {"turn", "gate", "preflight", "deploy", "approve_step", "deploy_on", "promote"}
# How traffic is shared at each step; the first is what serves before.
SHARES = [
    {"main": 100},
    *({"main": 100 - share, "candidate": share} for share in (5, 25, 50, 100)),
    {"main": 0, "candidate": 100},
    {"main": 100, "candidate": 0},
    {"main": 100},
]


@pytest.fixture(scope="module")
def serving(platform: ClusterPlatform, seldon: SeldonParts, proxies: Proxies) -> Iterator[ServingPlatform]:
    """The platform with its triggerer in the cluster."""
    with serving_platform(platform, seldon, proxies) as serving:
        yield serving


@dataclass(frozen=True)
class Case:
    """A deployment of its own: spec, registered model, endpoint.

    :param name: of all three.
    """

    serving: ServingPlatform
    name: str

    @classmethod
    def begun(cls, serving: ServingPlatform, name: str) -> Case:
        """Register a champion and a better model, serve the first, and push the spec; nobody challenges yet."""
        models = serving.seldon.models
        serving.registry.create_registered_model(name)
        for model in ("good", "better"):
            serving.registry.create_model_version(name, models[model].uri, models[model].run_id)
        serving.registry.set_registered_model_alias(name, "champion", "1")
        spec = SPEC.format(name=name, namespace=serving.seldon.kubectl.namespace, graph=GRAPH)
        serving.platform.publish({f"{name}/deployment.yaml": spec}, name)
        return cls(serving, name)

    def challenge(self) -> None:
        """Let the better model challenge."""
        self.serving.registry.set_registered_model_alias(self.name, "challenger", "2")

    def answer(self, run: DagRun) -> None:
        """Say yes at the pause."""
        path = f"/dags/{self.name}/dagRuns/{run.run_id}/taskInstances/approve_step/-1/hitlDetails"
        self.serving.platform.api.patch(path, {"chosen_options": ["Approve"], "params_input": {}})

    def step(self, number: int) -> None:
        """Wait until a step has begun, as it stands in `SHARES`."""
        history = self.serving.history
        self.serving.platform.wait_until(
            f"step {number} has begun", lambda: len(history.of(self.name)) > number, PATIENCE
        )

    def dies(self, who: str) -> None:
        """Somebody dies, if it is who dies in this test; workers do it in `worker_dies`."""
        airflow = self.serving.platform.airflow
        if who == "triggerer":
            self.serving.triggerer.kill()
        elif who == "scheduler":
            airflow.kill_part("scheduler")
            airflow.start_part("scheduler")

    def worker_dies(self, who: str, run: DagRun, task_id: str) -> None:
        """The worker of a task dies while it starts, and the next one at work, if it is who dies in this test."""
        if who != "worker":
            return
        platform = self.serving.platform
        starting = platform.wait_until(f"a worker is at {task_id}", lambda: self._worker(run, task_id))
        self._kill(starting)
        self._kill(platform.wait_until(f"another works on {task_id}", lambda: self._at_work(run, task_id, starting)))

    def _kill(self, pod: str) -> None:
        self.serving.platform.kubectl("delete", "pod", pod, "--force", "--grace-period=0", check=False)

    def _at_work(self, run: DagRun, task_id: str, former: str) -> str:
        pod = self._worker(run, task_id)
        return pod if pod != former and self.serving.platform.state(run, task_id) == "running" else ""

    def _worker(self, run: DagRun, task_id: str) -> str:
        pods = self.serving.platform.pods.workers(self.name, run.run_id, task_id)
        return next((pod.name for pod in pods if pod.ever("Running") and not pod.deleted), "")

    def result(self, run: DagRun) -> dict[str, Any]:
        """All that is left of a run that has ended, without what differs from run to run."""
        api = self.serving.platform.api
        found = {
            "run": run.state,
            "tasks": self.serving.states(run),
            "told": {task: api.xcom(run, task) for task in ("deploy", "deploy_on", "promote")},
            "aliases": self.serving.aliases(self.name),
            "written": [vars(one) for one in self.serving.history.of(self.name)],
            "resource": self.serving.whole(self.name),
        }
        # The mark is a digest of what makes the pods, the model's name too.
        text = re.sub(rf'("{re.escape(MARK)}": )"\w+"', r'\1"MARK"', json.dumps(found, sort_keys=True))
        for word, instead in ((run.run_id, "RUN"), (self.name, "NAME")):
            text = text.replace(word, instead)
        return dict(json.loads(text))


def deployed(case: Case, who: str) -> DagRun:
    """Go through a deployment, in which somebody dies at each step, and return its run."""
    platform = case.serving.platform
    run = platform.start(case.name)
    platform.wait_for_state(run, "gate", "deferred")
    case.dies(who)
    case.challenge()
    case.worker_dies(who, run, "gate")
    platform.wait_until("there is a throw-away", lambda: case.serving.seldon.kubectl.get(SDEPS, "--selector", PURPOSE))
    case.dies(who)
    for number in (1, 2, 3):
        case.step(number)
        case.dies(who)
    case.worker_dies(who, run, "approve_step")
    platform.wait_for_state(run, "approve_step", "deferred", "awaiting_input")
    # Airflow fails a task whose answer comes before the scheduler has heard that it waits.
    platform.pods.wait_until_deleted(platform.pods.workers(case.name, run.run_id, "approve_step"))
    case.dies(who)
    case.answer(run)
    for number in (4, 5, 6, 7):
        case.step(number)
        case.dies(who)
    platform.wait_until("a worker promotes", lambda: platform.pods.workers(case.name, run.run_id, "promote"))
    case.dies(who)
    case.worker_dies(who, run, "promote")
    return platform.finish(run, PATIENCE)


def through(serving: ServingPlatform, who: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Deploy, and return all that is left."""
    case = Case.begun(serving, f"deaths-{who}")
    with monkeypatch.context() as patch:
        reach(patch, serving.seldon.prometheus_url)
        assert Endpoint(serving.seldon, case.name).rolled("good", task="first").result == "done"
    serving.platform.wait_until("it serves", lambda: serving.seldon.answering(case.name) == "good")
    with serving.seldon.load(case.name, rate=10) as load:
        run = deployed(case, who)
    assert set(load.codes()) == {200}, load.problems
    assert run.state == "success", serving.platform.explain(run)
    return case.result(run)


@pytest.fixture(scope="module")
def undisturbed(serving: ServingPlatform) -> dict[str, Any]:
    """What is left of a deployment in which nobody died."""
    return through(serving, "nobody", pytest.MonkeyPatch())


def test_nobody_dies(undisturbed: dict[str, Any]) -> None:
    assert {task for task, state in undisturbed["tasks"].items() if state == "success"} == DONE
    assert [one["shares"] for one in undisturbed["written"]] == SHARES
    assert undisturbed["aliases"] == {"champion": "2", "previous-champion": "1", "challenger": "2"}


@pytest.mark.parametrize("who", ["triggerer", "scheduler", "worker"])
def test_who_dies_at_each_step_changes_nothing(
    serving: ServingPlatform, undisturbed: dict[str, Any], who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert through(serving, who, monkeypatch) == undisturbed
