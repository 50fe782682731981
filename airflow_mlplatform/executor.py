"""Airflow's KubernetesExecutor that says why a worker pod failed, and does not try again what cannot succeed.

Without it a task whose worker pod never started shows an empty log, and the scheduler tries it again as often as its
retries allow, whether its image is misspelt or its node was lost. An executor, not a listener: only an executor sees
pods that wait, hears of a failure before the scheduler decides about a retry, and is asked to take back what waits too
long.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.providers.cncf.kubernetes.executors.kubernetes_executor import KubernetesExecutor
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import annotations_to_key
from airflow.utils.state import TaskInstanceState
from kubernetes.client.rest import ApiException
from urllib3.exceptions import HTTPError

from airflow_mlplatform.runtime.pod_failure import PodFailure, failure, obstacle, out_of_memory
from airflow_mlplatform.task_notes import TaskNotes, keep_try, spend_retries, state_of, unfinished
from airflow_mlplatform.worker_pods import KUBERNETES_ERRORS, WorkerPods, refused, silent

if TYPE_CHECKING:
    from airflow.executors.base_executor import EventBufferValueType
    from airflow.executors.workloads.types import WorkloadKey
    from airflow.models.taskinstance import TaskInstance
    from airflow.providers.cncf.kubernetes.executors.kubernetes_executor_types import KubernetesResults

__all__ = ["MlplatformKubernetesExecutor"]

Json = Mapping[str, Any]

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 5.0


class MlplatformKubernetesExecutor(KubernetesExecutor):
    """Set ``[core] executor = airflow_mlplatform.executor.MlplatformKubernetesExecutor``.

    What it adds to Airflow's own: the log of a task says what its worker pod waits for and why it failed; a mistake
    that no retry can mend fails the task at once; a pod that cannot start is deleted. All of ``[kubernetes_executor]``
    keeps its meaning. See ``docs/pod-failures.md``.
    """

    # What is not started, as in the API server, only reads logs.
    _pods: WorkerPods | None = None

    def start(self) -> None:
        """Start as Airflow's executor does."""
        # A failed pod is read before it is deleted, so that is done here and not by Airflow's executor.
        self._delete_failed = self.kube_config.delete_worker_pods and self.kube_config.delete_worker_pods_on_failure
        self.kube_config.delete_worker_pods_on_failure = False
        super().start()
        assert self.kube_client is not None
        self._pods = WorkerPods(self.kube_client, self.kube_config)
        self._notes = TaskNotes()
        self._next_look = 0.0
        self._found: dict[WorkloadKey, PodFailure] = {}
        self._told: dict[WorkloadKey, str] = {}
        self._absent: set[TaskInstanceKey] = set()

    def sync(self) -> None:
        """Do what Airflow's executor does; then look, every few seconds, what pods wait for."""
        try:
            super().sync()
        except (ApiException, HTTPError, OSError) as error:
            # Airflow's own executor takes the scheduler with it, when it looks for pods of others just then.
            _demand_outage(error)
            log.warning("Kubernetes does not answer; the executor goes on in the next round: %s", error)
        if self._pods and time.monotonic() >= self._next_look:
            self._look(self._pods)
            self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS

    def get_event_buffer(self, dag_ids: Any = None) -> dict[WorkloadKey, EventBufferValueType]:
        """Return what happened, with the reason beside each failure; tasks that cannot succeed have no retries left."""
        events = super().get_event_buffer(dag_ids)
        for key, (state, info) in list(events.items()):
            if self._pods and state == TaskInstanceState.FAILED and isinstance(key, TaskInstanceKey):
                events[key] = (state, self._explain(key, info))
        return events

    def try_adopt_task_instances(self, tis: Sequence[TaskInstance]) -> Sequence[TaskInstance]:
        """Take over the pods of another scheduler; while Kubernetes is away nothing is reset, for they may live."""
        try:
            return super().try_adopt_task_instances(tis)
        except (ApiException, HTTPError, OSError) as error:
            _demand_outage(error)
            log.warning("Kubernetes does not answer, so %d tasks are taken over later: %s", len(tis), error)
            return []

    def revoke_task(self, *, ti: TaskInstance) -> None:
        """Take back a task that waited too long, and say in its log what its pod waited for."""
        why = self._why(ti.key)
        reason = why.message if why else "why is not known"
        self._notes.add(ti.key, f"queued for longer than [scheduler] task_queued_timeout: {reason}", "error")
        super().revoke_task(ti=ti)

    def end(self) -> None:
        """End as Airflow's executor does; what is not in a log yet is written first."""
        super().end()
        if self._pods:
            self._notes.close()

    def _change_state(self, results: KubernetesResults, **kwargs: Any) -> None:
        # The pod of a task whose process was killed succeeds, and Airflow's executor deletes it here. Nobody else tells
        # that the task has ended: with retries left it would count as running until its heartbeat is missed.
        killed = self._killed(results.key, results.pod_name) if results.state is None else None
        late = results.state is None and self._late(results.key, results.pod_name)
        if late:
            # Airflow's executor would forget the task, and what becomes of its new pod with it.
            self.running.discard(results.key)
        super()._change_state(results, **kwargs)
        if late:
            self.running.add(results.key)
        if killed:
            self._found[results.key] = killed
            self.fail(results.key)

    def _late(self, key: WorkloadKey, pod_name: str) -> bool:
        """Whether a task is back from the triggerer, under the same key, as the end of its former pod is told again."""
        if not isinstance(key, TaskInstanceKey) or key not in self.running:
            return False
        state = state_of(key)
        if state != TaskInstanceState.RUNNING:
            return state == TaskInstanceState.QUEUED
        pod = self._newest(key)
        return pod["metadata"]["name"] != pod_name if pod else False

    def _killed(self, key: WorkloadKey, pod_name: str) -> PodFailure | None:
        """Tell why the process of a task that seems to run was killed; of one that has ended, only note it."""
        if not isinstance(key, TaskInstanceKey):
            return None
        state = state_of(key)
        if state not in (TaskInstanceState.RUNNING, TaskInstanceState.FAILED, TaskInstanceState.UP_FOR_RETRY):
            return None
        pod = self._newest(key)
        if not pod or pod["metadata"]["name"] != pod_name:
            return None
        why = out_of_memory(pod)
        if state == TaskInstanceState.RUNNING:
            return why or silent(pod)
        if why:
            self._notes.add(key, why.message, "error")
        return None

    def _look(self, pods: WorkerPods) -> None:
        try:
            found = {_key(pod): pod for pod in pods.of_scheduler(self.scheduler_job_id)}
        except KUBERNETES_ERRORS as why:
            log.warning("What worker pods wait for is not known, because Kubernetes did not answer: %s", why)
            return
        for key, pod in found.items():
            self._look_at(pods, pod, key)
        absent = self._made() - found.keys()
        for key in absent & self._absent:
            self._miss(key)
        self._absent = absent
        self._told = {key: told for key, told in self._told.items() if key in self.running}

    def _made(self) -> set[TaskInstanceKey]:
        """The tasks whose pods have been made, as far as the executor has told Kubernetes of all it runs."""
        assert self.task_queue is not None
        if self.task_queue.qsize() > len(self.task_publish_retries):
            return set()
        return {key for key in self.running - self.task_publish_retries.keys() if isinstance(key, TaskInstanceKey)}

    def _miss(self, key: TaskInstanceKey) -> None:
        """A pod is gone that has not run. Airflow's executor hears only of those that are lost while they run."""
        if state_of(key) == TaskInstanceState.QUEUED and (why := self._why(key)) and why.reason == "Deleted":
            self._found[key] = why
            self.fail(key)

    def _look_at(self, pods: WorkerPods, pod: Json, key: TaskInstanceKey) -> None:
        if key in self.running:
            if why := obstacle(pod):
                self._hold_up(pods, pod, key, why)
        elif key not in self.event_buffer and (
            (_phase(pod) == "Pending" and not unfinished(key)) or (self._delete_failed and _phase(pod) == "Failed")
        ):
            # Its failure has been explained. One that waits, for its image perhaps, could still start.
            pods.delete(pod)

    def _hold_up(self, pods: WorkerPods, pod: Json, key: TaskInstanceKey, why: PodFailure) -> None:
        if not unfinished(key):
            # Someone has marked the task meanwhile; Airflow would let its pod wait on, and run.
            self.running.discard(key)
            pods.delete(pod)
        elif why.final:
            self._found[key] = why
            self.fail(key)
            pods.delete(pod)
        elif self._told.get(key) != why.message:
            self._told[key] = why.message
            self._notes.add(key, why.message, "warning")

    def _explain(self, key: TaskInstanceKey, info: object) -> object:
        found = self._found.pop(key, None)
        if not unfinished(key):
            return info
        why = found or refused(key, info) or self._why(key)
        if why is None:
            return info
        self._notes.add(key, why.message, "error")
        log.error("%s: %s", key, why.message)
        (spend_retries if why.lasting else keep_try)(key)
        return why.message

    def _why(self, key: TaskInstanceKey) -> PodFailure | None:
        pod = self._newest(key)
        if pod == {}:
            return None
        return failure(pod) or (obstacle(pod) or silent(pod) if pod else None)

    def _newest(self, key: TaskInstanceKey) -> Json | None:
        """The newest pod of a try; ``None`` if there is none, empty if Kubernetes does not answer."""
        assert self._pods is not None
        try:
            return self._pods.of_try(key)
        except KUBERNETES_ERRORS as why:
            log.warning("What became of the pod of %s is not known, because Kubernetes did not answer: %s", key, why)
            return {}


def _key(pod: Json) -> TaskInstanceKey:
    return annotations_to_key(pod["metadata"]["annotations"])


def _phase(pod: Json) -> str:
    return str((pod.get("status") or {}).get("phase"))


def _demand_outage(error: Exception) -> None:
    """Raise an error again that is an answer of Kubernetes, and not that it cannot answer now."""
    if isinstance(error, ApiException) and (error.status or 500) < 500 and error.status != 429:
        raise error
