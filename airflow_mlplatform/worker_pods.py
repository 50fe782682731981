"""The worker pods of the KubernetesExecutor, as the scheduler may see and delete them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import annotations_to_key
from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from kubernetes.client.rest import ApiException
from kubernetes_asyncio.client.exceptions import ApiException as AsyncApiException
from urllib3.exceptions import HTTPError

from airflow_mlplatform.runtime.pod_failure import PodFailure, refusal

if TYPE_CHECKING:
    from airflow.models.taskinstancekey import TaskInstanceKey
    from airflow.providers.cncf.kubernetes.kube_config import KubeConfig
    from kubernetes.client import CoreV1Api

__all__ = ["KUBERNETES_ERRORS", "WorkerPods", "refused", "silent"]

log = logging.getLogger(__name__)

KUBERNETES_ERRORS = (ApiException, HTTPError, OSError, ValueError)
# Seconds to connect and to read: the scheduler waits for the answer.
TIMEOUT = (2, 10)


class WorkerPods:
    """Lists and deletes worker pods; needs no more rights than the executor itself.

    :param client: the executor's client.
    :param config: the executor's configuration.
    """

    def __init__(self, client: CoreV1Api, config: KubeConfig) -> None:
        self._client = client
        self._config = config

    def of_scheduler(self, job_id: str | None) -> list[dict[str, Any]]:
        """Return the worker pods that a scheduler watches, oldest first, as the cache of Kubernetes has them.

        :raises KUBERNETES_ERRORS: if Kubernetes does not answer, or refuses.
        """
        return sorted(self._list(f"kubernetes_executor=True,airflow-worker={job_id}", resource_version="0"), key=_age)

    def of_try(self, key: TaskInstanceKey) -> dict[str, Any] | None:
        """Return the newest worker pod of one try of a task; ``None`` if there is none.

        :raises KUBERNETES_ERRORS: if Kubernetes does not answer, or refuses.
        """
        labels = {"dag_id": key.dag_id, "task_id": key.task_id, "try_number": str(key.try_number)}
        selector = ",".join(f"{name}={make_safe_label_value(value)}" for name, value in labels.items())
        pods = self._list(f"kubernetes_executor=True,{selector}")
        # Labels of long or odd names are hashes; the annotations are exact.
        found = (pod for pod in pods if annotations_to_key(pod["metadata"]["annotations"]) == key)
        return max(found, key=_age, default=None)

    def delete(self, pod: Mapping[str, Any]) -> None:
        """Delete a pod; if that fails, it is only logged."""
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        try:
            self._client.delete_namespaced_pod(name, namespace, _request_timeout=TIMEOUT)
        except KUBERNETES_ERRORS as why:
            if getattr(why, "status", None) != 404:
                log.warning("Pod %s in namespace %s was not deleted: %s", name, namespace, why)

    def _list(self, selector: str, **options: Any) -> Iterator[dict[str, Any]]:
        options |= {"label_selector": selector, "_request_timeout": TIMEOUT, "_preload_content": False}
        for namespace in self._namespaces():
            answer = (
                self._client.list_namespaced_pod(namespace, **options)
                if namespace
                else self._client.list_pod_for_all_namespaces(**options)
            )
            yield from json.loads(answer.data)["items"]

    def _namespaces(self) -> list[str]:
        """The executor's namespaces; an empty name stands for all."""
        if self._config.multi_namespace_mode:
            return self._config.multi_namespace_mode_namespace_list or [""]
        return [self._config.kube_namespace or ""]


def _age(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"]["creationTimestamp"])


def refused(key: TaskInstanceKey, info: object) -> PodFailure | None:
    """Tell why the executor could not make a pod.

    :param info: what the executor noted beside the failure.
    :return: ``None`` if the pod was made.
    """
    what = f"the worker pod of task {key.task_id}"
    if isinstance(info, (ApiException, AsyncApiException)):
        return refusal(info.status or 0, info.body or str(info.reason), what)
    if isinstance(info, (HTTPError, OSError)):
        return refusal(0, str(info), what)
    if isinstance(info, Exception) or info == "Invalid executor_config passed":
        message = (
            f"{what} cannot be made: {info}; correct its executor_config, the pod template or the pod mutation hook"
        )
        return PodFailure("Invalid", message, lasting=True)
    return None


def silent(pod: Mapping[str, Any]) -> PodFailure:
    """Say that nothing is wrong with a pod, as far as Kubernetes knows, while its task is not heard from."""
    name, node = pod["metadata"]["name"], pod["spec"].get("nodeName", "no node")
    if pod["status"].get("phase") == "Succeeded":
        seen = "has ended, but nobody told Airflow how its task did: the task's process was killed"
    else:
        seen = "has not ended for Kubernetes, but its task is not heard from: its node may be unreachable"
    reach = "or the pod cannot reach Airflow's API server; a retry starts a new pod"
    return PodFailure("Silent", f"pod {name} on {node} {seen}, {reach}")
