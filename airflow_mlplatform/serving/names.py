"""What the Seldon operator calls the objects that it makes of a SeldonDeployment.

Names over 63 characters become ``seldon-`` and the MD5 of the name. Read from and recorded with the operator 1.17.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Expected", "expected_deployments", "host", "object_labels", "resource_id", "service_name"]

Json = Mapping[str, Any]

LONGEST = 63
# Implementations that need no container of their own in the spec, other than model servers.
BUILT_IN = frozenset({"UNKNOWN_IMPLEMENTATION", "SIMPLE_MODEL", "SIMPLE_ROUTER", "RANDOM_ABTEST", "AVERAGE_COMBINER"})
SEPARATE_ENGINE = "seldon.io/engine-separate-pod"
OWN_SERVICE_NAME = "seldon.io/svc-name"


def resource_id(name: str) -> str:
    """Return the value of the label ``seldon-deployment-id``, which is also the name of the VirtualService.

    :param name: name of the SeldonDeployment.
    """
    return _fitting(name)


def object_labels(name: str) -> dict[str, str]:
    """Return labels that all Deployments and pods of a SeldonDeployment bear, and no others."""
    return {"seldon-deployment-id": resource_id(name)}


def service_name(name: str, predictor: Json) -> str:
    """Return the name of a predictor's Service.

    :param name: name of the SeldonDeployment.
    :param predictor: as the SeldonDeployment has it.
    """
    own = (predictor.get("annotations") or {}).get(OWN_SERVICE_NAME)
    return str(own) if own else _fitting(f"{name}-{predictor['name']}")


def host(namespace: str, name: str, predictor: Json) -> str:
    """Return the host by which routes name a predictor."""
    return f"{service_name(name, predictor)}.{namespace}.svc.cluster.local"


@dataclass(frozen=True)
class Expected:
    """A Deployment that the operator makes.

    :param names: the names it may have: of a long one the operator's ``DEPLOYMENT_NAME_AS_PREFIX`` chooses.
    :param replicas: how many pods it is to have; ``None`` if the load decides, or Kubernetes' default.
    """

    names: frozenset[str]
    replicas: int | None = None


def expected_deployments(name: str, spec: Json, predictor: Json) -> tuple[Expected, ...]:
    """Return the Deployments of a predictor.

    :param name: name of the SeldonDeployment.
    :param spec: its spec.
    :param predictor: one of its predictors.
    """
    prefix, shared = f"{name}-{predictor['name']}", (predictor.get("replicas"), spec.get("replicas"))
    found = [
        Expected(_component_names(name, f"{prefix}-{index}-{part}"), None if scaled else _first(own, *shared))
        for index, part, own, scaled in _components(predictor)
    ]
    if str((spec.get("annotations") or {}).get(SEPARATE_ENGINE)).lower() == "true":
        own = (predictor.get("svcOrchSpec") or {}).get("replicas")
        found.append(Expected(frozenset({_fitting(f"{prefix}-svc-orch")}), _first(own, *shared)))
    if (predictor.get("explainer") or {}).get("type"):
        found.append(Expected(frozenset({_fitting(f"{prefix}-explainer")})))
    return tuple(found)


def _first(*replicas: int | None) -> int | None:
    return next((one for one in replicas if one is not None), None)


def _components(predictor: Json) -> Iterator[tuple[int, str, int | None, bool]]:
    """Yield of each component that becomes a Deployment: index, name, own replicas, and whether load scales it."""
    specs = list(predictor.get("componentSpecs") or [{}])
    containers = [[str(one["name"]) for one in (spec.get("spec") or {}).get("containers") or ()] for spec in specs]
    there = {name for names in containers for name in names}
    containers[0] += [name for name in _model_servers(predictor["graph"]) if name not in there]
    for index, (spec, names) in enumerate(zip(specs, containers, strict=True)):
        if names:
            part = str((spec.get("metadata") or {}).get("name") or "-".join(names))
            yield index, part, spec.get("replicas"), bool(spec.keys() & {"hpaSpec", "kedaSpec"})


def _model_servers(unit: Json) -> Iterator[str]:
    implementation = unit.get("implementation")
    if implementation and implementation not in BUILT_IN:
        yield str(unit["name"])
    for child in unit.get("children") or ():
        yield from _model_servers(child)


def _component_names(name: str, full: str) -> frozenset[str]:
    if len(full) <= LONGEST:
        return frozenset({full})
    prefixed = f"{name}-{_md5(full)}"
    return frozenset({f"seldon-{_md5(full)}", *([prefixed] if len(prefixed) <= LONGEST else ())})


def _fitting(name: str) -> str:
    return name if len(name) <= LONGEST else f"seldon-{_md5(name)}"


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
