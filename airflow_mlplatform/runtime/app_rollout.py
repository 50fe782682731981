"""How far a Deployment has come, and what is in its way, read from it and its pods as the API sends them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_mlplatform.runtime.pod_failure import PodFailure, failure, obstacle, refusal
from airflow_mlplatform.runtime.pod_failure.facts import condition, statuses, where

__all__ = ["Progress", "progress", "started_again", "unexplained"]

Json = Mapping[str, Any]

MANY_RESTARTS = 3


@dataclass(frozen=True)
class Progress:
    """How far a version has come.

    :param complete: all pods are of this version, available, and no other is left.
    :param account: in a line, what is there and what is missing.
    :param failure: what will not mend itself; ``None`` while there is hope.
    :param pod: the pod whose log tells more; ``None`` if none does.
    :param container: its container.
    """

    complete: bool
    account: str
    failure: PodFailure | None = None
    pod: Json | None = None
    container: str = ""


def progress(deployment: Json, pods: Sequence[Json]) -> Progress:
    """Return how far a Deployment has come.

    :param deployment: as the API sent it last.
    :param pods: the pods of its newest version.
    """
    spec, status = deployment["spec"], deployment.get("status") or {}
    wanted = int(spec.get("replicas", 1))
    counts = {name: int(status.get(name) or 0) for name in ("replicas", "updatedReplicas", "availableReplicas")}
    seen = int(status.get("observedGeneration") or 0) >= int(deployment["metadata"].get("generation") or 0)
    if seen and set(counts.values()) == {wanted}:
        return Progress(True, f"{_pods(wanted)} of this version, all available")
    # How pods do that are to go is no matter.
    hindrances = [hindrance for pod in pods if (hindrance := _hindrance(pod))] if wanted else []
    account = "; ".join([_counted(wanted, counts, seen), *(found.message for _, _, found in hindrances)])
    if refused := _refused(deployment):
        return Progress(False, f"{account}; {refused.message}", refused if refused.lasting else None)
    pod, container, found = next(
        (one for one in hindrances if one[2].final), hindrances[0] if hindrances else (None, "", None)
    )
    return Progress(False, account, found if found and found.final else None, pod, container)


def started_again(pod: Json, container: str) -> bool:
    """Whether a container runs again after it ended, so that its former log tells why."""
    found = next((status for status in statuses(pod) if status["name"] == container), {})
    return "running" in (found.get("state") or {}) and bool(found.get("restartCount"))


def unexplained(pods: Sequence[Json]) -> Json | None:
    """Return a pod that has not started and whose status does not tell exactly why; its events may."""
    for pod in pods:
        hindrance = _hindrance(pod)
        if _phase(pod) == "Pending" and (hindrance is None or hindrance[2].reason == "Volumes"):
            return pod
    return None


def _counted(wanted: int, counts: Mapping[str, int], seen: bool) -> str:
    if not seen:
        return "Kubernetes has not looked at this version yet"
    updated = counts["updatedReplicas"]
    old = counts["replicas"] - updated
    text = f"{updated} of {_pods(wanted)} are of this version, {counts['availableReplicas']} are available"
    return text + (f", {_pods(old)} of the former version still there" if old > 0 else "")


def _refused(deployment: Json) -> PodFailure | None:
    told = condition(deployment, "ReplicaFailure")
    if told.get("status") != "True":
        return None
    return refusal(403, str(told.get("message") or ""), f"a pod of {deployment['metadata']['name']}")


def _hindrance(pod: Json) -> tuple[Json, str, PodFailure] | None:
    if (pod["metadata"] or {}).get("deletionTimestamp"):
        return None
    inits = {container["name"] for container in pod["spec"].get("initContainers") or ()}
    for status in statuses(pod):
        if ended := _ended(status, status["name"] in inits):
            return pod, str(status["name"]), _crash(pod, status, ended)
    if found := obstacle(pod):
        return (
            pod,
            _waiting_container(pod),
            PodFailure(found.reason, found.message, found.lasting, found.final or found.lasting),
        )
    if unready := next(_unready(pod), None):
        return pod, unready, PodFailure("NotReady", f"{where(pod)} runs but is not ready: {_asked(pod)}", final=False)
    return None


def _ended(status: Json, init: bool) -> Json | None:
    """How a container ended that should not have: now, or before it was started again."""
    now = status.get("state") or {}
    ended: Json | None = now.get("terminated") or (status.get("lastState") or {}).get("terminated")
    works = "running" in now and (init or status.get("ready"))
    done = init and (now.get("terminated") or {}).get("exitCode") == 0
    return None if works or done else ended


def _crash(pod: Json, status: Json, ended: Json) -> PodFailure:
    """Why a container ended, in the words for pods that are not started again."""
    name, times = status["name"], int(status.get("restartCount") or 0)
    if ended.get("exitCode") == 0:
        message = f"{where(pod)}, container {name} ended by itself, though it is to work until it is told to end"
        found = PodFailure("Ended", message)
    else:
        stopped = {**pod, "status": {"containerStatuses": [{"name": name, "state": {"terminated": ended}}]}}
        found = failure(stopped) or PodFailure("ExitCode", f"{where(pod)}, container {name} failed")
    again = f" (it was started again {times} times)" if times > 1 else ""
    return PodFailure(found.reason, found.message + again, found.lasting, found.lasting or times >= MANY_RESTARTS)


def _waiting_container(pod: Json) -> str:
    return next((str(one["name"]) for one in statuses(pod) if "waiting" in (one.get("state") or {})), "")


def _unready(pod: Json) -> Iterator[str]:
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        if "running" in (status.get("state") or {}) and not status.get("ready"):
            yield str(status["name"])


def _asked(pod: Json) -> str:
    for container in (pod.get("spec") or {}).get("containers") or ():
        if ask := (container.get("readinessProbe") or {}).get("httpGet"):
            return f"its {ask.get('path')} does not answer with 200"
    return "its container has just started"


def _phase(pod: Json) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def _pods(count: int) -> str:
    return f"{count} pod" if count == 1 else f"{count} pods"
