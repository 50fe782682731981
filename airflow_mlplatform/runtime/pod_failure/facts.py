"""What is said about a failed pod, and where in a pod's JSON the facts are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Json", "PodFailure", "condition", "container", "statuses", "where"]

Json = Mapping[str, Any]


@dataclass(frozen=True)
class PodFailure:
    """Why a pod does not start, was refused, or did not succeed.

    :param reason: one word for programs, such as ``ImagePull``, ``Unschedulable``, ``OutOfMemory`` or ``ExitCode``;
        all are listed in ``docs/pod-failures.md``.
    :param message: where, what, why and what to do next.
    :param lasting: a mistake in the spec or the cluster that no retry can mend.
    :param final: ``False`` for what only keeps the pod from starting now and may pass.
    """

    reason: str
    message: str
    lasting: bool = False
    final: bool = True


def where(pod: Json) -> str:
    """Name the pod and its namespace."""
    metadata = pod.get("metadata") or {}
    namespace = metadata.get("namespace")
    return f"pod {metadata.get('name', '(without a name)')}" + (f" in namespace {namespace}" if namespace else "")


def container(pod: Json, name: str) -> Json:
    """Return the spec of the container of that name; empty if there is none."""
    spec = pod.get("spec") or {}
    every = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    return next((found for found in every if found.get("name") == name), {})


def statuses(pod: Json) -> Iterator[Json]:
    """Yield the statuses of the pod's containers in the order in which they start."""
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def condition(pod: Json, kind: str) -> Json:
    """Return the pod's condition of that type; empty if it has none."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return next((found for found in conditions if found.get("type") == kind), {})
