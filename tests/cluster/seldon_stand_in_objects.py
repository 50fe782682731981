"""What the stand-in for Seldon's operator makes of a SeldonDeployment: names, labels and specs as 1.17.1 makes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.cluster.seldon_stand_in_pod import GRPC, HTTP, pod
from tests.cluster.seldon_stand_in_predictor import DOMAIN, Predictor, short

if TYPE_CHECKING:
    from tests.cluster.api_server import Object
    from tests.cluster.seldon_stand_in_predictor import Installation

__all__ = ["Components", "components"]

OWNER = "machinelearning.seldon.io/v1"
GRPC_PATHS = ".*tensorflow.*|.*seldon.protos.*|.*inference.*"


@dataclass
class Components:
    """The objects that a SeldonDeployment wants, by name."""

    deployments: dict[str, Object] = field(default_factory=dict)
    services: dict[str, Object] = field(default_factory=dict)
    autoscalers: dict[str, Object] = field(default_factory=dict)
    budgets: dict[str, Object] = field(default_factory=dict)
    virtual_services: dict[str, Object] = field(default_factory=dict)
    destination_rules: dict[str, Object] = field(default_factory=dict)
    endpoints: dict[str, Object] = field(default_factory=dict)
    address: str = ""
    default: str = ""


def components(sdep: Object, at: Installation) -> Components:
    """All objects of a SeldonDeployment."""
    found = Components()
    for spec in sdep["spec"]["predictors"]:
        one = Predictor(sdep, spec, at)
        deployment = _deployment(one)
        found.deployments[one.deployment_name] = deployment
        found.services[one.server_service] = _server_service(one)
        found.services[one.key] = _predictor_service(one)
        found.endpoints[one.server_service] = _endpoints(one.server_service, one.namespace, HTTP, GRPC)
        found.endpoints[one.key] = _endpoints(one.key, one.namespace, 8000, 5001)
        _add_scaling(found, one)
    first = Predictor(sdep, sdep["spec"]["predictors"][0], at)
    found.default = first.deployment_name
    path = f"v2/models/{first.graph['name']}/infer" if first.protocol == "v2" else "api/v1.0/predictions"
    found.address = f"http://{first.key}.{first.namespace}.{DOMAIN}:8000/{path}"
    if at.istio:
        _add_routes(found, sdep, at)
    return found


def _endpoints(name: str, namespace: str, http: int, grpc: int) -> Object:
    host = f"{name}.{namespace}"
    return {"svcName": name, "httpEndpoint": f"{host}:{http}", "grpcEndpoint": f"{host}:{grpc}"}


def _head(one: Predictor | Object, name: str, labels: dict[str, str], annotations: dict[str, str]) -> Object:
    sdep = one.sdep if isinstance(one, Predictor) else one
    owner = {
        "apiVersion": OWNER,
        "kind": "SeldonDeployment",
        "name": sdep["metadata"]["name"],
        "uid": sdep["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    head = {"name": name, "namespace": sdep["metadata"]["namespace"], "ownerReferences": [owner]}
    return head | ({"labels": labels} if labels else {}) | ({"annotations": annotations} if annotations else {})


def _kind_labels(one: Predictor) -> dict[str, str]:
    shadow = {"seldon.io/shadow": "true"} if one.spec.get("shadow") else {}
    return {"seldon.io/model": "true", "app.kubernetes.io/managed-by": "seldon-core", **shadow}


def _deployment(one: Predictor) -> Object:
    sdep_id, name = short(one.sdep_name), one.deployment_name
    chosen = {
        "seldon-app": one.key,
        f"seldon-app-svc-{one.graph['name']}": one.server_service,
        "seldon-deployment-id": sdep_id,
    }
    own = one.component.get("metadata", {})
    labels = {"app": name, "fluentd": "true", **_kind_labels(one), **one.labels, **chosen, **own.get("labels", {})}
    notes = {
        **one.sdep["spec"].get("annotations", {}),
        **one.spec.get("annotations", {}),
        **own.get("annotations", {}),
    }
    scraped = {"prometheus.io/path": "/prometheus", "prometheus.io/scrape": "true"}
    spec: Object = {
        "selector": {"matchLabels": chosen},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "progressDeadlineSeconds": one.spec.get("progressDeadlineSeconds", 600),
        "template": {"metadata": {"labels": labels, "annotations": scraped | notes}, "spec": pod(one)},
    }
    if not one.component.get("hpaSpec"):
        spec["replicas"] = _replicas(one)
    orchestrates = {"seldon-deployment-contains-svcorch": "true"}
    head = _head(one, name, labels | orchestrates, notes)
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": head, "spec": spec}


def _replicas(one: Predictor) -> int:
    for place in (one.component, one.spec, one.sdep["spec"]):
        if place.get("replicas") is not None:
            return int(place["replicas"])
    return 1


def _service(one: Predictor, name: str, labels: dict[str, str], selector: dict[str, str], *ports: int) -> Object:
    spec = {
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "selector": selector,
        "ports": [
            {"name": each, "port": port, "targetPort": port, "protocol": "TCP"}
            for each, port in zip(("http", "grpc"), ports, strict=True)
        ],
    }
    labels = labels | {"seldon-app": one.key, "seldon-deployment-id": short(one.sdep_name)}
    head = _head(one, name, labels, dict(one.spec.get("annotations", {})))
    return {"apiVersion": "v1", "kind": "Service", "metadata": head, "spec": spec}


def _server_service(one: Predictor) -> Object:
    chosen = {f"seldon-app-svc-{one.graph['name']}": one.server_service}
    return _service(one, one.server_service, _kind_labels(one) | chosen, chosen, HTTP, GRPC)


def _predictor_service(one: Predictor) -> Object:
    labels = {"app.kubernetes.io/managed-by": "seldon-core"}
    return _service(one, one.key, labels, {"seldon-app": one.key}, 8000, 5001)


def _add_scaling(found: Components, one: Predictor) -> None:
    name, chosen = one.deployment_name, {"seldon-deployment-id": short(one.sdep_name)}
    head = _head(one, name, chosen, {})
    if hpa := one.component.get("hpaSpec"):
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        spec = {"scaleTargetRef": target, "maxReplicas": hpa["maxReplicas"], "metrics": hpa.get("metricsv2", [])}
        spec |= {"minReplicas": hpa["minReplicas"]} if "minReplicas" in hpa else {}
        kind = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
        found.autoscalers[name] = {**kind, "metadata": head, "spec": spec}
    if pdb := one.component.get("pdbSpec"):
        spec = {**pdb, "selector": {"matchLabels": chosen}}
        kind = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget"}
        found.budgets[name] = {**kind, "metadata": head, "spec": spec}


def _add_routes(found: Components, sdep: Object, at: Installation) -> None:
    name, namespace = sdep["metadata"]["name"], sdep["metadata"]["namespace"]
    headers = {"seldon": {"exact": name}, "namespace": {"exact": namespace}}
    routes: list[Object] = [
        {"match": [{"uri": {"prefix": f"/seldon/{namespace}/{name}/"}}], "rewrite": {"uri": "/"}},
        {"match": [{"uri": {"regex": GRPC_PATHS}, "headers": headers}]},
    ]
    for route, port in zip(routes, (8000, 5001), strict=True):
        route["route"] = []
        for spec in sdep["spec"]["predictors"]:
            _add_route(route, Predictor(sdep, spec, at), port)
    api = {"apiVersion": "networking.istio.io/v1"}
    spec = {"hosts": ["*"], "gateways": [at.gateway], "http": routes}
    key = short(name)
    found.virtual_services[key] = {
        **api,
        "kind": "VirtualService",
        "metadata": _head(sdep, key, {}, {}),
        "spec": spec,
    }
    for each in sdep["spec"]["predictors"]:
        one = Predictor(sdep, each, at)
        rule = {
            "host": f"{one.key}.{namespace}.{DOMAIN}",
            "subsets": [{"name": each["name"], "labels": {"version": one.labels["version"]}}],
            "trafficPolicy": {"connectionPool": {"http": {"idleTimeout": "60s"}}},
        }
        head = _head(sdep, one.key, {}, {})
        found.destination_rules[one.key] = {**api, "kind": "DestinationRule", "metadata": head, "spec": rule}


def _add_route(route: Object, one: Predictor, port: int) -> None:
    host = f"{one.key}.{one.namespace}.{DOMAIN}"
    destination = {"host": host, "port": {"number": port}, "subset": one.spec["name"]}
    weight = one.spec.get("traffic", 0)
    if not one.spec.get("shadow"):
        # As Go writes it: a weight of zero is left out.
        route["route"].append({"destination": destination} | ({"weight": weight} if weight else {}))
        return
    route["mirror"] = destination
    if weight > 0:
        route["mirrorPercentage"] = {"value": weight}
