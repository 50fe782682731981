"""A streaming spec on the cluster: its app runs as pods from a git repository; new versions, bad ones, its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from airflow_mlplatform.demo.processes import Processes
from tests.cluster.git_server import SpecRepository
from tests.cluster.images import STREAMING
from tests.cluster.platform import ClusterPlatform
from tests.services.clicks_parts import APP, Pipeline, change, order
from tests.services.kafka_broker import KafkaBroker

SPEC = """\
apiVersion: mlplatform/v1
kind: streaming
name: clicks
description: {mark}
retries: {{count: 0}}
state: {state}
topics:
  - {{name: clicks.orders, partitions: 3}}
  - {{name: clicks.features, partitions: 3, config: {{cleanup.policy: compact}}}}
app:
  image: {image}
  git: {{url: "{repository}", ref: main}}
  entrypoint: [python, main.py]
  replicas: {replicas}
  group: clicks
  env: {{KAFKA_BROKERS: "{brokers}", ORDERS_TOPIC: clicks.orders, FEATURES_TOPIC: clicks.features, GROUP: clicks}}
  probes: {{port: 8080, ready: /readyz, live: /healthz}}
  grace: 10s
  rollout: {{timeout: 3m, settle: 2s}}
"""
BAD = """\
import sys

print("looking for the model")
sys.exit("model.bin is not there")
"""


@dataclass
class Clicks:
    """The pipeline as the tests drive it."""

    platform: ClusterPlatform
    broker: KafkaBroker
    code: SpecRepository
    pipeline: Pipeline

    def publish(self, **changes: Any) -> None:
        """Publish the spec and wait until Airflow has taken it."""
        values = {"state": "running", "replicas": 2, "mark": uuid4().hex, **changes}
        image, url = self.platform.images(STREAMING), self.code.url
        text = SPEC.format(**values, image=image, repository=url, brokers=self.broker.bootstrap)
        self.platform.publish({"clicks/streaming.yaml": text}, "clicks")
        api, mark = self.platform.api, values["mark"]
        self.platform.wait_until("it is parsed", lambda: api.get("/dags/clicks")["description"] == mark, 90)

    def result(self, task_id: str, **changes: Any) -> Any:
        """Publish the spec, run it and return what a task left in XCom."""
        if changes:
            self.publish(**changes)
        return self.platform.api.xcom(self.platform.succeed(self.platform.start("clicks")), task_id)

    def deployment(self) -> Any:
        """Return the Deployment, if it is there."""
        found = self.platform.kubectl.get("deployments", "--selector", "app.kubernetes.io/name=clicks")
        return found[0] if found else None

    def pods(self) -> list[str]:
        """Return the names of the app's pods."""
        pods = self.platform.kubectl.pods("app.kubernetes.io/name=clicks")
        return sorted(pod["metadata"]["name"] for pod in pods if not pod["metadata"].get("deletionTimestamp"))


@pytest.fixture(scope="module")
def clicks(platform: ClusterPlatform, node_ip: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clicks]:
    folder = tmp_path_factory.mktemp("streaming")
    platform.images.build_own("streaming")
    processes = Processes(folder / "git-processes")
    with KafkaBroker(folder / "kafka", host=node_ip) as broker:
        code = SpecRepository(folder / "git", node_ip, processes)
        try:
            code.start()
            code.copy(APP, ".")
            code.publish("the app")
            extra = json.dumps({"bootstrap.servers": broker.bootstrap})
            platform.api.post("/connections", {"connection_id": "kafka_default", "conn_type": "kafka", "extra": extra})
            yield Clicks(platform, broker, code, Pipeline(broker.bootstrap, "clicks", folder))
        finally:
            processes.stop()


def test_it_is_made_and_works(clicks: Clicks) -> None:
    clicks.publish()
    run = clicks.platform.succeed(clicks.platform.start("clicks"))
    assert clicks.platform.api.xcom(run, "topics") == {"clicks.orders": "made", "clicks.features": "made"}
    told = clicks.platform.api.xcom(run, "app")
    assert (told["done"], told["replicas"], len(told["commit"])) == ("created", 2, 40)
    assert clicks.platform.pods.workers(run.dag_id, run.run_id, "app") == []
    assert len(clicks.pods()) == 2
    clicks.pipeline.send(change("c", None, order(number, number % 9)) for number in range(90))
    clicks.platform.wait_until("all is counted", lambda: counted(clicks) == 90, 60)


def counted(clicks: Clicks) -> int:
    return sum(row["orders"] for row in clicks.pipeline.result()[0].values())


@pytest.mark.long
def test_nothing_is_done_again(clicks: Clicks) -> None:
    before, generation = clicks.pods(), clicks.deployment()["metadata"]["generation"]
    assert clicks.result("topics") == {"clicks.orders": "as wished", "clicks.features": "as wished"}
    assert clicks.result("app")["done"] == "unchanged"
    assert (clicks.pods(), clicks.deployment()["metadata"]["generation"]) == (before, generation)


def test_a_moved_branch_is_a_new_version(clicks: Clicks) -> None:
    before = clicks.pods()
    commit = clicks.code.publish("another version", {"VERSION": "2"})
    told = clicks.result("app")
    assert (told["done"], told["commit"]) == ("updated", commit)
    assert not set(before) & set(clicks.pods())
    clicks.pipeline.send(change("c", None, order(number, number % 9)) for number in range(90, 180))
    clicks.platform.wait_until("all is counted once", lambda: counted(clicks) == 180, 60)


def test_a_bad_version_is_rolled_back(clicks: Clicks) -> None:
    good, before = (clicks.code.specs / "main.py").read_text("utf-8"), clicks.pods()
    template = clicks.deployment()["spec"]["template"]
    clicks.code.publish("a bad version", {"main.py": BAD})
    run = clicks.platform.finish(clicks.platform.start("clicks"))
    assert run.state == "failed"
    log = clicks.platform.wait_for_log(run, "app", "The former version is back.")
    assert "model.bin is not there" in log
    assert "looking for the model" in log
    assert clicks.deployment()["spec"]["template"] == template
    assert clicks.pods() == before
    clicks.code.publish("mended", {"main.py": good})


@pytest.mark.long
def test_another_triggerer_goes_on(clicks: Clicks) -> None:
    run = clicks.platform.start("clicks")
    clicks.platform.wait_until("a version is rolled out", lambda: len(clicks.pods()) > 2, 120)
    clicks.platform.airflow.kill_part("triggerer")
    clicks.platform.airflow.start_part("triggerer")
    clicks.platform.succeed(run)
    assert clicks.platform.tries(run, "app") == 1


@pytest.mark.long
def test_it_can_be_paused(clicks: Clicks) -> None:
    assert clicks.result("app", state="paused")["replicas"] == 0
    assert clicks.pods() == []
    assert clicks.result("app", state="running", replicas=1)["replicas"] == 1
    assert len(clicks.pods()) == 1


def test_it_goes_and_the_topics_stay(clicks: Clicks) -> None:
    clicks.publish(state="absent")
    run = clicks.platform.succeed(clicks.platform.start("clicks"))
    assert clicks.platform.api.xcom(run, "app")["done"] == "removed"
    assert clicks.platform.api.xcom(run, "topics") == {"deleted": [], "stay": ["clicks.features", "clicks.orders"]}
    assert (clicks.deployment(), clicks.pods()) == (None, [])
    assert counted(clicks) == 180
