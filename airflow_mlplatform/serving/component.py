"""The pods of a predictor: the model server's container, completed, among what a template brings along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from airflow_mlplatform.runtime.pod_manifest import env_vars, quantities
from airflow_mlplatform.specs.deployment import Autoscale, Serving

__all__ = ["components"]

Manifest = dict[str, Any]
Json = Mapping[str, Any]

# The engine and the storage initializer stay as the operator makes them; its own default user (8888) is left to it.
SECURITY: Manifest = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
POD_DEFAULTS: Manifest = {"automountServiceAccountToken": False, "enableServiceLinks": False}
START_LOOKS = 5


def components(serving: Serving, node: str, given: Sequence[Json], *, v2: bool) -> list[Manifest]:
    """Return the components of a predictor, the model server's container among them.

    :param serving: the model server.
    :param node: name of the graph's node, and so of its container.
    :param given: the template's components; what they say stays where the spec says nothing.
    :param v2: whether the server answers the health questions of protocol v2.
    :raises ConfigurationError: if a secret would show.
    """
    found = [deepcopy(dict(one)) for one in given] or [{}]
    home = next((one for one in found if _container(one, node)), found[0])
    spec = home["spec"] = {**POD_DEFAULTS, **(home.get("spec") or {})}
    own = _server(serving, {"name": node, **(_container(home, node) or {})}, v2=v2)
    if "securityContext" not in spec:
        own.setdefault("securityContext", deepcopy(SECURITY))
    # The operator makes the Deployment's name of the containers' names, in their order, and adds what lacks at the end.
    spec["containers"] = list(({one["name"]: one for one in spec.get("containers") or ()} | {node: own}).values())
    _placed(serving, spec)
    _sized(serving, home)
    return found


def _container(component: Json, name: str) -> Json | None:
    containers = (component.get("spec") or {}).get("containers") or ()
    return next((one for one in containers if one["name"] == name), None)


def _server(serving: Serving, given: Manifest, *, v2: bool) -> Manifest:
    # The last words of a server that crashed then stand in its status.
    defaults = {**_probes(serving, v2=v2), "terminationMessagePolicy": "FallbackToLogsOnError"}
    found = {"name": given["name"], **defaults, **deepcopy(given)}
    if serving.image:
        found["image"] = serving.image
    env = {one["name"]: one for one in [*(given.get("env") or ()), *_env(serving)]}
    if env:
        found["env"] = list(env.values())
    if asked := quantities(serving.resources):
        found["resources"] = asked
    return found


def _env(serving: Serving) -> list[Manifest]:
    level = {"SELDON_LOG_LEVEL": serving.log_level} if serving.log_level else {}
    return env_vars({**level, **serving.env}, "serving.env")


def _probes(serving: Serving, *, v2: bool) -> Manifest:
    def ask(path: str) -> Manifest:
        return {"httpGet": {"path": path, "port": "http", "scheme": "HTTP"}} if v2 else {"tcpSocket": {"port": "http"}}

    patience = max(1, int(serving.ready_timeout.total_seconds()) // START_LOOKS)
    return {
        # A model that takes long to load must not be killed while it does.
        "startupProbe": _probe({"tcpSocket": {"port": "http"}}, period=START_LOOKS, failures=patience),
        "readinessProbe": _probe(ask("/v2/health/ready"), period=5, failures=3),
        "livenessProbe": _probe(ask("/v2/health/live"), period=10, failures=6),
    }


def _probe(ask: Json, period: int, failures: int) -> Manifest:
    # Said in full: what Kubernetes fills in would be a difference to the operator.
    numbers = {"periodSeconds": period, "failureThreshold": failures, "successThreshold": 1, "timeoutSeconds": 5}
    return {**ask, **numbers}


def _placed(serving: Serving, spec: Manifest) -> None:
    if serving.service_account:
        spec["serviceAccountName"] = serving.service_account
    if serving.node_selector:
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **serving.node_selector}
    if serving.tolerations:
        own = [one.model_dump(exclude_none=True) for one in serving.tolerations]
        spec["tolerations"] = [*(one for one in spec.get("tolerations") or () if one not in own), *own]


def _sized(serving: Serving, component: Manifest) -> None:
    if serving.autoscale or "replicas" in serving.model_fields_set:
        for other in ("replicas", "hpaSpec", "kedaSpec"):
            component.pop(other, None)
    if serving.autoscale:
        component["hpaSpec"] = _scaling(serving.autoscale)


def _scaling(autoscale: Autoscale) -> Manifest:
    target = {"type": "Utilization", "averageUtilization": autoscale.cpu}
    return {
        "minReplicas": autoscale.min,
        "maxReplicas": autoscale.max,
        "metricsv2": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
