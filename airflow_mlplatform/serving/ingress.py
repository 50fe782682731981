"""Whether the requests of a SeldonDeployment can be split here, and whether they are split as wished.

Weights have no effect unless the operator programs an ingress. Whether it does is told by what it made of the running
resource; which API groups there are only tells whether it could.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from airflow_mlplatform.runtime.pod_failure.facts import condition
from airflow_mlplatform.serving.names import host

__all__ = ["ISTIO", "cannot_split", "uses_istio", "wrong_routes"]

Json = Mapping[str, Any]

ISTIO = "networking.istio.io"
"""The API group of VirtualServices."""
VIRTUAL_SERVICES, MAPPINGS = "istioVirtualServicesReady", "AmbassadorMappingsReady"
# The operator sets these conditions without an ingress too; only the reason tells. The misspelling is its own.
NONE = frozenset(
    {"", "No VirtualServices defined", "No Ambassador Mappings defined", "No Ambassador Mappaings defined"}
)


def uses_istio(sdep: Json) -> bool:
    """Whether the operator makes a VirtualService of it."""
    return _programmed(sdep, VIRTUAL_SERVICES)


def cannot_split(sdep: Json | None, groups: Collection[str]) -> str:
    """Tell why requests cannot be split, and what to do; empty if they can.

    :param sdep: the running resource; ``None`` if there is none.
    :param groups: the API groups of the cluster.
    """
    if sdep is None or not condition(sdep, VIRTUAL_SERVICES):
        return "" if ISTIO in groups else f"there is no ingress that Seldon programs: {_advice(groups)}"
    if _programmed(sdep, VIRTUAL_SERVICES) or _programmed(sdep, MAPPINGS):
        return ""
    return f"the Seldon operator programs no ingress here (it made no VirtualService of it): {_advice(groups)}"


def wrong_routes(sdep: Json, virtual_service: Json | None) -> str:
    """Tell in what a VirtualService differs from the wished weights; empty if in nothing."""
    if virtual_service is None:
        return "its VirtualService is not there yet"
    wished = _wished(sdep)
    for route in virtual_service["spec"].get("http") or ():
        if (found := _found(route)) != wished:
            return f"the VirtualService still splits {_shown(found)} instead of {_shown(wished)}"
    return ""


Split = Mapping[str, float]


def _wished(sdep: Json) -> Split:
    metadata, predictors = sdep["metadata"], sdep["spec"]["predictors"]
    served = [one for one in predictors if not one.get("shadow")]
    found = {
        host(metadata["namespace"], metadata["name"], one): float(one.get("traffic") or 0) if len(served) > 1 else 100.0
        for one in served
    }
    mirrors = {
        f"copy to {host(metadata['namespace'], metadata['name'], one)}": float(one.get("traffic") or 100)
        for one in predictors
        if one.get("shadow")
    }
    return found | mirrors


def _found(route: Json) -> Split:
    routes = route.get("route") or ()
    found = {
        str(one["destination"]["host"]): float(one.get("weight") or 0) if len(routes) > 1 else 100.0 for one in routes
    }
    if mirror := route.get("mirror"):
        found[f"copy to {mirror['host']}"] = float((route.get("mirrorPercentage") or {}).get("value", 100))
    return found


def _shown(split: Split) -> str:
    return ", ".join(f"{share:g} % {name.partition('.')[0]}" for name, share in split.items())


def _programmed(sdep: Json, kind: str) -> bool:
    return str(condition(sdep, kind).get("reason") or "") not in NONE


def _advice(groups: Collection[str]) -> str:
    istio = "set istio.enabled=true" if ISTIO in groups else "install Istio and set istio.enabled=true"
    return f"{istio} in the values of Seldon's chart, or use rollout.strategy: all-at-once"
