"""The whole platform on a cluster, as tests drive it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_mlplatform.demo.airflow_api import AirflowApi, DagRun
    from tests.cluster.control_plane import ControlPlane
    from tests.cluster.git_server import SpecRepository
    from tests.cluster.images import Images
    from tests.cluster.kubectl import Kubectl
    from tests.cluster.pod_history import PodHistory
    from tests.cluster.proxy import Proxy
    from tests.cluster.services import Services

__all__ = ["RUN_TIMEOUT", "ClusterPlatform"]

RUN_TIMEOUT = 300.0
POLL = 0.3
T = TypeVar("T")


@dataclass
class ClusterPlatform:
    """Everything that a test needs.

    :param airflow: the control plane, whose parts can be killed and started.
    :param api: client of its API.
    :param kubectl: in the namespace of Airflow's pods.
    :param services: S3 and MLflow, with `services.s3` and `services.mlflow` as proxies that can fail.
    :param execution_api: the way of worker pods to Airflow's API server; it can fail too.
    :param specs: the git repository of specs.
    :param pods: every pod that was ever there.
    :param images: names of images.
    """

    airflow: ControlPlane
    api: AirflowApi
    kubectl: Kubectl
    services: Services
    execution_api: Proxy
    specs: SpecRepository
    pods: PodHistory
    images: Images

    def wait_until(self, what: str, condition: Callable[[], T | None], timeout: float = RUN_TIMEOUT) -> T:
        """Wait until a condition gives something true, as long as all parts run, and return that."""
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            self.airflow.check()
            assert time.monotonic() < deadline, f"waited {timeout:.0f} s in vain until {what}"
            time.sleep(POLL)
        return found

    def publish(self, files: dict[str, str], *dag_ids: str) -> None:
        """Push specs and wait until Airflow shows their DAGs."""
        self.specs.publish(f"specs {', '.join(files)}", files)
        self.wait_for_dags(*dag_ids)

    def wait_for_dags(self, *dag_ids: str) -> None:
        """Wait until DAGs are there, without import errors."""
        self.wait_until(f"{dag_ids} are there", lambda: self._there(set(dag_ids)), 60)

    def _there(self, dag_ids: set[str]) -> bool:
        errors = self.api.import_errors()
        assert not errors, "\n".join(errors)
        return dag_ids <= self.api.dag_ids()

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """Return a run as it is now."""
        return next(run for run in self.api.runs(dag_id) if run.run_id == run_id)

    def start(self, dag_id: str, conf: dict[str, object] | None = None) -> DagRun:
        """Start a run."""
        return self.run(dag_id, self.api.trigger(dag_id, conf))

    def finish(self, run: DagRun, timeout: float = RUN_TIMEOUT) -> DagRun:
        """Wait until a run has ended, well or badly, and return it."""

        def ended() -> DagRun | None:
            now = self.run(run.dag_id, run.run_id)
            return now if now.state in ("success", "failed") else None

        return self.wait_until(f"{run.dag_id} {run.run_id} has ended", ended, timeout)

    def succeed(self, run: DagRun, timeout: float = RUN_TIMEOUT) -> DagRun:
        """Wait until a run has ended and make sure that it ended well."""
        ended = self.finish(run, timeout)
        assert ended.state == "success", self.explain(ended)
        return ended

    def fail(self, run: DagRun) -> None:
        """Mark a run as failed, which ends its tasks."""
        self.api.patch(f"/dags/{run.dag_id}/dagRuns/{run.run_id}", {"state": "failed"})

    def run_number(self, dag_id: str, number: int, timeout: float = RUN_TIMEOUT) -> DagRun:
        """Wait until the DAG has finished its run of that number, counted from 1."""
        runs = self.wait_until(
            f"{dag_id} has run {number}", lambda: self.api.runs(dag_id)[number - 1 : number], timeout
        )
        return self.finish(runs[0], timeout)

    def state(self, run: DagRun, task_id: str, map_index: int = -1) -> str:
        """Return the state of a task."""
        tasks = self.api.tasks(run)
        return next((task.state for task in tasks if (task.task_id, task.map_index) == (task_id, map_index)), "waiting")

    def wait_for_state(self, run: DagRun, task_id: str, *states: str, timeout: float = RUN_TIMEOUT) -> str:
        """Wait until a task is in one of some states and return it."""

        def reached() -> str | None:
            now = self.state(run, task_id)
            return now if now in states else None

        return self.wait_until(f"{task_id} of {run.dag_id} is {' or '.join(states)}", reached, timeout)

    def tries(self, run: DagRun, task_id: str, map_index: int = -1) -> int:
        """Return how often a task was tried."""
        path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}"
        found = self.api.get(path if map_index < 0 else f"{path}/{map_index}")
        return int(found["try_number"])

    def wait_for_log(self, run: DagRun, task_id: str, text: str) -> str:
        """Wait until the log of a task's last try says something, and return it; it may come after the task's end."""

        def told() -> str | None:
            log = self.api.log(run, task_id, self.tries(run, task_id))
            return log if text in log else None

        return self.wait_until(f"the log of {run.dag_id}.{task_id} says {text!r}", told, 60)

    def explain(self, run: DagRun) -> str:
        """What a person would look at when a run is not as it should be."""
        tasks = self.api.tasks(run)
        failed = [task for task in tasks if task.state in ("failed", "up_for_retry")]
        logs = (
            self.api.log(run, task.task_id, self.tries(run, task.task_id, task.map_index), task.map_index)
            for task in failed
        )
        return f"{tasks}\n" + "\n".join(logs)
