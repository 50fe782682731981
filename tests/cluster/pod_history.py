"""Every pod that there was, however short its life: what `kubectl get pods --watch` printed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.waiting import wait_for

if TYPE_CHECKING:
    from airflow_mlplatform.demo.airflow_api import DagRun

__all__ = ["PodHistory", "SeenPod"]

WATCH = ("get", "pods", "--watch", "--output-watch-events", "-o", "json")


@dataclass
class SeenPod:
    """A pod, as often as it was seen."""

    name: str
    events: list[dict[str, Any]] = field(default_factory=list)
    deleted: bool = False

    @property
    def last(self) -> dict[str, Any]:
        """The pod as it was seen last."""
        return self.events[-1]

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self.last["metadata"].get("labels", {}))

    @property
    def annotations(self) -> dict[str, str]:
        """Its annotations; those of worker pods name dag_id, task_id, run_id, try_number."""
        return dict(self.last["metadata"].get("annotations", {}))

    @property
    def is_worker(self) -> bool:
        """Whether the KubernetesExecutor made it."""
        return self.labels.get("kubernetes_executor") == "True"

    def ever(self, phase: str) -> bool:
        """Whether it was ever in that phase."""
        return any(event["status"].get("phase") == phase for event in self.events)


@dataclass
class PodHistory:
    """The pods of one namespace from the start of the test session on.

    :param namespace: the namespace.
    :param file: where the events are kept.
    """

    namespace: str
    file: Path
    _process: subprocess.Popen[bytes] | None = None
    _seen: dict[str, SeenPod] = field(default_factory=dict)
    _read: int = 0

    def __enter__(self) -> Self:
        with self.file.open("wb") as output:
            command = ["kubectl", "--namespace", self.namespace, *WATCH]
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def pods(self) -> list[SeenPod]:
        """Return all pods ever seen, in their order."""
        assert self._process, "the history was not started"
        assert self._process.poll() is None, "kubectl stopped to watch; what it saw is not complete"
        for event in self._new_events():
            pod = event["object"]
            known = self._seen.setdefault(pod["metadata"]["uid"], SeenPod(pod["metadata"]["name"]))
            known.events.append(pod)
            known.deleted = event["type"] == "DELETED"
        return list(self._seen.values())

    def _new_events(self) -> Iterator[dict[str, Any]]:
        with self.file.open("rb") as events:
            events.seek(self._read)
            for line in events:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                yield json.loads(line)

    def workers(self, dag_id: str, run_id: str = "", task_id: str = "") -> list[SeenPod]:
        """Return the worker pods of a DAG, of a run of it, or of a task of that."""
        wanted = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id}
        return [
            pod
            for pod in self.pods()
            if pod.is_worker and all(pod.annotations.get(name) == value for name, value in wanted.items() if value)
        ]

    def workers_of(self, run: DagRun) -> list[SeenPod]:
        """Return the worker pods of a run."""
        return self.workers(run.dag_id, run.run_id)

    def others(self) -> list[SeenPod]:
        """Return the pods that no executor made: trainings, container transforms."""
        return [pod for pod in self.pods() if not pod.is_worker]

    def wait_until_deleted(self, pods: list[SeenPod], timeout: float = 120.0) -> None:
        """Wait until pods are gone."""
        names = {pod.name for pod in pods}
        wait_for(
            lambda: names <= {pod.name for pod in self.pods() if pod.deleted}, f"until {names} were deleted", timeout
        )
