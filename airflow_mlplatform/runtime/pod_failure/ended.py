"""Why a pod that ended, or vanished, did not succeed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from airflow_mlplatform.runtime.pod_failure.facts import Json, PodFailure, condition, container, statuses, where
from airflow_mlplatform.runtime.process_output import Tail

__all__ = ["EX_CONFIG", "failure", "out_of_memory"]

EX_CONFIG = 78
"""Exit code by which a program says that its configuration is wrong and no retry can help (``sysexits.h``)."""

SIGKILL, SIGTERM = 137, 143
SIGNALS = {134: "SIGABRT", SIGKILL: "SIGKILL", 139: "SIGSEGV: a crash in native code", SIGTERM: "SIGTERM"}
WRONG_COMMAND = re.compile(
    r"executable file not found|no such file|not a directory|permission denied|exec format error"
)
LITTLE_MEMORY = re.compile(r"OOM-killed|memory limit too low", re.IGNORECASE)
# What the kubelet writes where a container's last words should be.
NO_LAST_WORDS = re.compile(r"^(Error on reading termination message|The container could not be located)")
RETRY = "a retry starts a new pod"

# Reasons of the pod itself, or of its condition DisruptionTarget: the cluster ended it, and another pod may live.
DISRUPTIONS = {
    "Evicted": ("Evicted", "was evicted from its node"),
    "EvictionByEvictionAPI": ("Evicted", "was evicted: its node is being drained, or someone asked for it"),
    "TerminationByKubelet": ("Evicted", "was ended by its node"),
    "Preempting": ("Preempted", "had to make room for a pod of higher priority"),
    "PreemptionByScheduler": ("Preempted", "had to make room for a pod of higher priority"),
    "DeletionByTaintManager": ("NodeLost", "was removed because its node became unreachable or was tainted"),
    "DeletionByPodGC": ("NodeLost", "was cleaned up because its node is gone"),
    "NodeLost": ("NodeLost", "was lost with its node"),
    "NodeShutdown": ("NodeLost", "was ended because its node shuts down"),
    "Shutdown": ("NodeLost", "was ended because its node shuts down"),
    "Terminated": ("NodeLost", "was ended because its node shuts down"),
    "DeadlineExceeded": ("DeadlineExceeded", "ran longer than its activeDeadlineSeconds allow"),
}


def failure(pod: Json | None, last_lines: Sequence[str] = ()) -> PodFailure | None:
    """Tell why a pod did not succeed.

    :param pod: the pod as the API sent it last; ``None`` if it is gone.
    :param last_lines: the end of the log of the container that failed; without them its termination message is used.
    :return: ``None`` if the pod succeeded, or has neither ended nor been deleted.
    """
    if pod is None:
        return PodFailure("Deleted", f"the pod is gone: someone deleted it, or its node was removed; {RETRY}")
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded":
        return None
    if killed := out_of_memory(pod):
        return killed
    failed = _first_failed(pod)
    if disrupted := _disrupted(pod):
        return disrupted
    if failed and not _deleted_before_end(pod, failed):
        return _exited(pod, failed, last_lines)
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return PodFailure("Deleted", f"{where(pod)} was deleted before its work was done; {RETRY}")
    return _rejected(pod) if status.get("phase") == "Failed" else None


def out_of_memory(pod: Json) -> PodFailure | None:
    """Tell whether memory was wanting, even in a pod that succeeded: not its main process may have been killed.

    :param pod: the pod as the API sent it last.
    """
    for status in statuses(pod):
        if ((status.get("state") or {}).get("terminated") or {}).get("reason") == "OOMKilled":
            return _out_of_memory(pod, str(status["name"]))
    return None


def _first_failed(pod: Json) -> Json | None:
    """The container that failed first: the others may have been ended because of it."""
    ended = [
        status for status in statuses(pod) if ((status.get("state") or {}).get("terminated") or {}).get("exitCode")
    ]
    return min(ended, key=lambda status: str(status["state"]["terminated"].get("finishedAt") or "9"), default=None)


def _out_of_memory(pod: Json, name: str) -> PodFailure:
    limit = ((container(pod, name).get("resources") or {}).get("limits") or {}).get("memory")
    pod_limit = (((pod.get("spec") or {}).get("resources") or {}).get("limits") or {}).get("memory")
    if not (limit or pod_limit):
        message = "it has no memory limit, so its node ran out; give it a memory request (resources.memory)"
        return PodFailure(
            "OutOfMemory", f"{where(pod)}, container {name} was killed for want of memory: {message}; {RETRY}"
        )
    which = f"its limit of {limit}" if limit else f"the pod's limit of {pod_limit}"
    message = f"needed more memory than {which} and was killed; raise resources.memory, or read less at once"
    return PodFailure("OutOfMemory", f"{where(pod)}, container {name} {message}", lasting=True)


def _disrupted(pod: Json) -> PodFailure | None:
    status, target = pod.get("status") or {}, condition(pod, "DisruptionTarget")
    if status.get("phase") != "Failed" and not (pod.get("metadata") or {}).get("deletionTimestamp"):
        return None  # it is only planned, and may not happen
    reasons = [(target.get("reason"), target.get("message"))] if target.get("status") == "True" else []
    for reason, why in [(status.get("reason"), status.get("message")), *reasons]:
        if known := DISRUPTIONS.get(str(reason)):
            detail = f" ({str(why).strip()})" if why else ""
            return PodFailure(known[0], f"{where(pod)} {known[1]}{detail}; {RETRY}")
    return None


def _deleted_before_end(pod: Json, failed: Json) -> bool:
    metadata, ended = pod.get("metadata") or {}, failed["state"]["terminated"]
    if not (until := metadata.get("deletionTimestamp")):
        return False
    asked = datetime.fromisoformat(until) - timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
    finished = ended.get("finishedAt")
    return ended["exitCode"] in (SIGKILL, SIGTERM) or (
        finished is not None and datetime.fromisoformat(finished) > asked
    )


def _exited(pod: Json, failed: Json, last_lines: Sequence[str]) -> PodFailure:
    ended, name = failed["state"]["terminated"], failed["name"]
    at, code, words = f"{where(pod)}, container {name}", int(ended["exitCode"]), str(ended.get("message") or "")
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        return _not_started(at, words)
    if ended.get("reason") == "ContainerStatusUnknown":
        return PodFailure("NodeLost", f"{at} was lost by its node before it said how it ended; {RETRY}")
    tail = Tail()
    for line in last_lines or ([] if NO_LAST_WORDS.match(words) else words.splitlines()):
        tail.add(line)
    if code == EX_CONFIG:
        return PodFailure("Misconfigured", f"{at} says that its configuration is wrong: {tail.reason}", lasting=True)
    signal = f" ({SIGNALS[code]})" if code in SIGNALS else ""
    shown = f"\nIts last lines:\n{tail}" if str(tail) else "; see its log"
    return PodFailure("ExitCode", f"{at} ended with exit code {code}{signal}: {tail.reason}{shown}")


def _not_started(at: str, words: str) -> PodFailure:
    why = words.rsplit("unable to start container process: ", 1)[-1]
    if LITTLE_MEMORY.search(why):
        return PodFailure("OutOfMemory", f"{at} could not start within its memory limit: {why}", lasting=True)
    wrong = bool(WRONG_COMMAND.search(why))
    then = "correct its command or working directory, or the image" if wrong else RETRY
    return PodFailure("CannotStart", f"{at} could not be started: {why}; {then}", lasting=wrong)


def _rejected(pod: Json) -> PodFailure:
    status = pod.get("status") or {}
    why = f"{status.get('reason') or 'Failed'}: {status.get('message') or 'its status tells no reason'}"
    return PodFailure("Rejected", f"{where(pod)} did not run: {why}; {RETRY}")
