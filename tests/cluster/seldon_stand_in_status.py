"""The status that Seldon's operator keeps: conditions of which `Ready` is the sum, state, replicas.

As recorded from 1.17.1: one condition that turns false makes `Ready` false with its own reason; `Ready` turns true
only when no condition is false. `observedGeneration` is never set, zeros are left out.
"""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.cluster.api_server import Object

__all__ = ["STALLED", "Status"]

STALLED = "Deployment is no longer progressing and not available."
READY = "Ready"


class Status:
    """The status of one SeldonDeployment while it is reconciled.

    :param former: what is written so far; it is not changed.
    """

    def __init__(self, former: Object | None) -> None:
        self.written: Object = deepcopy(former) if former else {}
        self.conditions: dict[str, Object] = {one["type"]: one for one in self.written.get("conditions", [])}

    def say(self, state: str, description: str = "") -> None:
        """Set state and description."""
        self.written["state"] = state
        self.written.pop("description", None)
        if description:
            self.written["description"] = description

    def condition(self, kind: str, well: bool, reason: str, message: str = "") -> None:
        """Set a condition, and `Ready` after it."""
        self._set(kind, "True" if well else "False", reason, message)
        unwell = [one for one in self.conditions.values() if one["status"] == "False" and one["type"] != READY]
        if not well:
            self._set(READY, "False", reason, message)
        elif unwell:
            worst = max(unwell, key=lambda one: str(one["lastTransitionTime"]))
            self._set(READY, "False", worst.get("reason", ""), worst.get("message", ""))
        else:
            self._set(READY, "True", "", "")

    def _set(self, kind: str, status: str, reason: str, message: str) -> None:
        said = {"status": status, "type": kind}
        said |= {"reason": reason} if reason else {}
        said |= {"message": message} if message else {}
        former = self.conditions.get(kind, {})
        if said != {key: value for key, value in former.items() if key != "lastTransitionTime"}:
            self.conditions[kind] = said | {"lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}

    def available(self, deployment: Object) -> None:
        """Take over the condition `Available` of a Deployment."""
        found = condition(deployment, "Available")
        if found:
            self.condition("DeploymentsReady", found["status"] == "True", found["reason"], found.get("message", ""))

    def replicas(self, name: str, seen: Object, first: bool) -> None:
        """Count the pods of a Deployment.

        :param seen: its status.
        :param first: whether it is the first of the first predictor.
        """
        counts = {key: seen[key] for key in ("replicas", "availableReplicas") if seen.get(key)}
        of_all: dict[str, Any] = self.written.setdefault("deploymentStatus", {})
        if of_all.get(name, {}) == counts:
            return
        of_all[name] = counts
        if first:
            self.written.pop("replicas", None)
            self.written |= {"replicas": counts["replicas"]} if "replicas" in counts else {}

    def service(self, name: str, endpoints: Object) -> None:
        """Tell a Service."""
        self.written.setdefault("serviceStatus", {}).setdefault(name, endpoints)

    def forget(self, kind: str, name: str) -> None:
        """Tell a Deployment or a Service no longer."""
        self.written.get(kind, {}).pop(name, None)

    def whole(self) -> Object:
        """The status as it is written."""
        conditions = [self.conditions[kind] for kind in sorted(self.conditions)]
        return self.written | ({"conditions": conditions} if conditions else {})


def condition(deployment: Object, kind: str) -> Object:
    """A condition in the status of a Deployment; empty if it is not there."""
    found = deployment.get("status", {}).get("conditions", [])
    return next((one for one in found if one["type"] == kind), {})
