"""The smallest DAGs that need something of the cluster: one written by hand, one a spec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.images import STREAMING

if TYPE_CHECKING:
    from tests.cluster.platform import ClusterPlatform

__all__ = ["publish_flows", "publish_tiny", "publish_trains"]

TINY = """\
from __future__ import annotations

import time

from airflow.sdk import DAG, task

with DAG("tiny", schedule=None, default_args={"retries": 2, "retry_delay": 0}):

    @task
    def work(params):
        print("at work", flush=True)
        time.sleep(params.get("seconds", 0))

    work()
"""
TRAINS = """\
apiVersion: mlplatform/v1
kind: training
name: trains
start: 2026-01-01
retries: {count: 0}
project: {uri: project}
experiment: trains
"""
PROJECT = """\
name: trains
entry_points:
  main: {command: "echo trained"}
"""
FLOWS = """\
apiVersion: mlplatform/v1
kind: streaming
name: flows-{name}
start: 2026-01-01
retries: {{count: 0}}
state: {state}
app:
  image: {image}
  entrypoint: [sleep, infinity]
  resources: {{memory: {memory}}}
  grace: 1s
  rollout: {{settle: 1s, timeout: 20s}}
"""


def publish_tiny(platform: ClusterPlatform) -> None:
    """Publish `tiny`: its task `work` prints "at work" and sleeps for `conf["seconds"]`."""
    platform.publish({"dags/tiny.py": TINY}, "tiny")


def publish_trains(platform: ClusterPlatform) -> None:
    """Publish `trains`: its task `train` is a training that prints "trained"."""
    platform.publish({"trains/training.yaml": TRAINS, "trains/project/MLproject": PROJECT}, "trains")


def publish_flows(platform: ClusterPlatform) -> None:
    """Publish `flows-well`, an app that sleeps, `flows-starved`, which cannot start, and `flows-absent`."""
    image = platform.images(STREAMING)
    for name, state, memory in (
        ("well", "running", "64Mi"),
        ("starved", "running", "1Ki"),
        ("absent", "absent", "64Mi"),
    ):
        text = FLOWS.format(name=name, state=state, memory=memory, image=image)
        platform.publish({f"flows/{name}.yaml": text}, f"flows-{name}")
