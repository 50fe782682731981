"""Whether what a SeldonDeployment says is what serves, and what is missing, read from what the API server sends.

The resource's own state comes late, flashes `Available` too early and tells nothing of its generation; so each
Deployment is looked at first, and the state only believed when they are all done.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_mlplatform.runtime.pod_failure.facts import condition
from airflow_mlplatform.serving.ingress import uses_istio, wrong_routes
from airflow_mlplatform.serving.names import expected_deployments
from airflow_mlplatform.serving.seen import Failure, Seen
from airflow_mlplatform.serving.servers import servers_of

__all__ = ["Failure", "Readiness", "Seen", "readiness"]

Json = Mapping[str, Any]

INVALID = re.compile(r" is invalid: ")
# Events cut long messages.
MESSAGE_START = 200


@dataclass(frozen=True)
class Readiness:
    """How far it is.

    :param ready: what it says serves, with the wished weights.
    :param account: in a line, what is there and what is missing.
    :param failures: what will not mend by itself; none while there is hope.
    :param unwell: the predictors whose servers are not all there.
    """

    ready: bool
    account: str
    failures: tuple[Failure, ...] = ()
    unwell: frozenset[str] = frozenset()

    @property
    def failure(self) -> Failure | None:
        """The first failure; ``None`` while there is hope."""
        return next(iter(self.failures), None)

    def only(self, predictor: str) -> bool:
        """Whether the servers of one predictor are all that is missing."""
        return self.unwell == {predictor} and all(one.predictor == predictor for one in self.failures)

    def serves(self, predictor: str) -> bool:
        """Whether the servers of one predictor are all there, and nothing is wrong with the whole."""
        return predictor not in self.unwell and all(one.predictor not in ("", predictor) for one in self.failures)


def readiness(seen: Seen) -> Readiness:
    """Return how far a SeldonDeployment is with what its spec says.

    :param seen: what was found, at about the same time.
    """
    sdep = seen.sdep
    if sdep is None or sdep["metadata"].get("deletionTimestamp"):
        gone = "the SeldonDeployment was removed by somebody; deploy again"
        return Readiness(False, gone, (Failure("Gone", gone, lasting=False),))
    servers = {str(one["name"]): servers_of(seen, one) for one in sdep["spec"]["predictors"]}
    failures = [one.failure for one in servers.values() if one.failure] or _refused(seen)
    unwell = {name: one.account for name, one in servers.items() if not one.complete}
    missing = [*unwell.values()] or _withheld(seen)
    if not sdep.get("status"):
        missing = ["the Seldon operator has not taken it up yet; see that its pod (seldon-controller-manager) runs"]
    account = "; ".join(missing or [one.account for one in servers.values()])
    return Readiness(not missing, account, tuple(failures), frozenset(unwell))


def _withheld(seen: Seen) -> list[str]:
    """What the operator has not done though all servers are well."""
    assert seen.sdep is not None
    status = seen.sdep.get("status") or {}
    told = condition(seen.sdep, "Ready")
    if not _asleep(seen.sdep) and (status.get("state") != "Available" or told.get("status") != "True"):
        why = status.get("description") or told.get("reason") or "no reason"
        return [f"all servers are well, and the operator says {status.get('state')}: {why}"]
    wrong = wrong_routes(seen.sdep, seen.virtual_service) if uses_istio(seen.sdep) else ""
    return [wrong] if wrong else []


def _asleep(sdep: Json) -> bool:
    """Whether some servers are to have no pods: the operator then says Creating for ever."""
    name, spec = sdep["metadata"]["name"], sdep["spec"]
    return any(made.replicas == 0 for one in spec["predictors"] for made in expected_deployments(name, spec, one))


def _refused(seen: Seen) -> list[Failure]:
    """What the operator cannot make objects of, such as names, if one of its events shows that it means this spec."""
    assert seen.sdep is not None
    status = seen.sdep.get("status") or {}
    why = str(status.get("description") or "")
    if status.get("state") != "Failed" or not INVALID.search(why) or not _said_since(seen.sdep, seen.events, why):
        return []
    message = f"the Seldon operator cannot make it: {why}; correct the name in the spec"
    return [Failure("Invalid", message, lasting=True)]


def _said_since(sdep: Json, events: Sequence[Json], what: str) -> bool:
    written = [
        one.get("time") or "" for one in sdep["metadata"].get("managedFields") or () if not one.get("subresource")
    ]
    since = max(written, default=str(sdep["metadata"].get("creationTimestamp") or ""))
    return any(
        what.startswith(str(one.get("message"))[:MESSAGE_START]) and str(one.get("lastTimestamp") or "") > since
        for one in events
        if one["involvedObject"].get("uid") == sdep["metadata"]["uid"]
    )
