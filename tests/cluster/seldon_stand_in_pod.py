"""The pods of a predictor, as the operator 1.17.1 was seen to make them: model initializer, model server, engine."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.cluster.api_server import Object
    from tests.cluster.seldon_stand_in_predictor import Predictor

__all__ = ["ENGINE", "GRPC", "HTTP", "pod"]

ENGINE = "seldon-container-engine"
MODELS = "/mnt/models"
HTTP, GRPC, METRICS = 9000, 9500, 6000
FILE = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
PODINFO: dict[str, Any] = {"name": "seldon-podinfo", "mountPath": "/etc/podinfo"}
RUNTIME = '{{"k8s_options": {{"defaultRuntime": "tempo.seldon.SeldonKubernetesRuntime", "namespace": "{}"}}}}'


def pod(one: Predictor) -> Object:
    """The spec of its pods."""
    pod: Object = one.component["spec"]
    for number, container in enumerate(pod["containers"]):
        if container["name"] == one.graph["name"]:
            pod["containers"][number] = _server(one, container)
    pod["containers"].append(_engine(one))
    info = {"path": "annotations", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.annotations"}}
    pod.setdefault("volumes", []).append(
        {"name": PODINFO["name"], "downwardAPI": {"defaultMode": 420, "items": [info]}}
    )
    pod.setdefault("securityContext", {"runAsUser": 8888})
    pod.setdefault("terminationGracePeriodSeconds", 20)
    if one.graph.get("modelUri"):
        pod["volumes"].append({"name": f"{one.graph['name']}-provision-location", "emptyDir": {}})
        pod.setdefault("initContainers", []).append(_initializer(one))
    if account := one.graph.get("serviceAccountName"):
        pod["serviceAccountName"] = account
    return pod


def _initializer(one: Predictor) -> Object:
    secret = one.graph.get("envSecretRefName") or one.at.secret
    return {
        "name": f"{one.graph['name']}-model-initializer",
        "image": one.graph.get("storageInitializerImage") or one.at.initializer,
        "imagePullPolicy": "IfNotPresent",
        "args": [one.graph["modelUri"], MODELS],
        "envFrom": [{"secretRef": {"name": secret}}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "100Mi"}},
        "volumeMounts": [{"name": f"{one.graph['name']}-provision-location", "mountPath": MODELS}],
        **FILE,
    }


def _probe(one: Predictor, handler: Object, delay: int, timeout: int) -> Object:
    at = one.at
    times = {"initialDelaySeconds": delay, "periodSeconds": at.probe_period, "timeoutSeconds": timeout}
    return {**handler, **times, "successThreshold": 1, "failureThreshold": 3}


def _server(one: Predictor, given: Object) -> Object:
    prepackaged = bool(one.graph.get("implementation"))
    v2 = prepackaged and one.protocol == "v2"
    image = given.get("image") or one.image
    mounts = [PODINFO]
    if one.graph.get("modelUri"):
        mounts.append({"name": f"{one.graph['name']}-provision-location", "mountPath": MODELS, "readOnly": True})
    ports = [("grpc", GRPC), ("http", HTTP)] if v2 else [("metrics", METRICS), ("http", HTTP), ("grpc", GRPC)]
    server = {
        "imagePullPolicy": "IfNotPresent",
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", f"/bin/sleep {one.at.drain}"]}}},
        "resources": {},
        **FILE,
        **given,
        "image": image,
        "env": _environment(one, given, v2, image),
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports],
        "volumeMounts": [*given.get("volumeMounts", []), *mounts],
    }
    for name, path, delay in (("readinessProbe", "ready", one.at.probe_delay), ("livenessProbe", "live", 60)):
        get = {"httpGet": {"path": f"/v2/health/{path}", "port": "http", "scheme": "HTTP"}}
        handler = get if v2 else {"tcpSocket": {"port": HTTP}}
        probe = given.get(name) or _probe(one, {}, delay, 1)
        # The operator keeps the times that the user gave for MLServer, but never his handler.
        kept = {key: value for key, value in probe.items() if key not in {"httpGet", "tcpSocket", "exec", "grpc"}}
        server[name] = handler | kept if v2 or name not in given else probe
    return server


def _environment(one: Predictor, given: Object, v2: bool, image: str) -> list[Object]:
    name = one.graph["name"]
    values: dict[str, Any] = {}
    if v2:
        values = {
            "MLSERVER_HTTP_PORT": str(HTTP),
            "MLSERVER_GRPC_PORT": str(GRPC),
            "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_mlflow.MLflowRuntime",
            "MLSERVER_MODEL_NAME": name,
            "MLSERVER_MODEL_VERSION": "v1",
            "MLSERVER_MODEL_URI": MODELS,
            "TEMPO_RUNTIME_OPTIONS": RUNTIME.format(one.namespace),
        }
    found: dict[str, Object] = {key: {"name": key, "value": value} for key, value in values.items()}
    found |= {each["name"]: each for each in given.get("env", [])}
    after = {
        "PREDICTIVE_UNIT_SERVICE_PORT": str(HTTP),
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(HTTP),
        "MLSERVER_HTTP_PORT": str(HTTP),
        "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": str(GRPC),
        "MLSERVER_GRPC_PORT": str(GRPC),
        **({"PREDICTIVE_UNIT_PARAMETERS": _parameters(one, v2)} if _parameters(one, v2) else {}),
        **({"MLSERVER_MODEL_URI": MODELS} if one.graph.get("modelUri") else {}),
        "PREDICTIVE_UNIT_ID": name,
        "MLSERVER_MODEL_NAME": name,
        "PREDICTIVE_UNIT_IMAGE": image,
        "PREDICTOR_ID": one.spec["name"],
        "PREDICTOR_LABELS": json.dumps(one.labels, separators=(",", ":"), sort_keys=True),
        "SELDON_DEPLOYMENT_ID": one.sdep_name,
        "SELDON_EXECUTOR_ENABLED": "true",
        "PREDICTIVE_UNIT_METRICS_SERVICE_PORT": str(METRICS),
        "PREDICTIVE_UNIT_METRICS_ENDPOINT": "/prometheus",
        "MLSERVER_METRICS_PORT": str(METRICS),
        "MLSERVER_METRICS_ENDPOINT": "/prometheus",
    }
    for key, value in after.items():
        found.setdefault(key, {"name": key, "value": value})
    return list(found.values())


def _parameters(one: Predictor, v2: bool) -> str:
    given = list(one.graph.get("parameters", []))
    if one.graph.get("implementation") and not v2:
        given.append({"name": "model_uri", "value": MODELS, "type": "STRING"})
    return json.dumps(given, separators=(",", ":")) if given else ""


def _engine(one: Predictor) -> Object:
    # Traffic and replicas restart nothing: they are not in what the engine is told.
    component = one.component
    for container in component["spec"]["containers"]:
        container.setdefault("image", one.image)
    told = one.spec | {"traffic": 0, "replicas": 0, "labels": one.labels, "componentSpecs": [component]}
    words = {
        "sdep": one.sdep_name, "namespace": one.namespace, "predictor": one.spec["name"], "http_port": "8000",
        "grpc_port": "5001", "protocol": one.protocol, "transport": "rest", "prometheus_path": "/prometheus",
        "server_type": "rpc", "log_work_buffer_size": "10000", "log_write_timeout_ms": "2000",
    }  # fmt: skip
    predictor = base64.b64encode(json.dumps(told, sort_keys=True).encode()).decode()
    ports = (("http", 8000), ("metrics", 8000), ("grpc", 5001))
    return {
        "name": ENGINE,
        "image": one.at.executor,
        "imagePullPolicy": "IfNotPresent",
        "args": [*(word for key, value in words.items() for word in (f"--{key}", value)), "--full_health_checks=false"],
        "env": [
            {"name": "ENGINE_PREDICTOR", "value": predictor},
            {"name": "REQUEST_LOGGER_DEFAULT_ENDPOINT", "value": "http://default-broker"},
        ],
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports],
        "readinessProbe": _probe(one, _get("/ready"), one.at.probe_delay, 60),
        "livenessProbe": _probe(one, _get("/live"), 20, 60),
        "resources": {"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "runAsUser": 8888},
        "volumeMounts": [PODINFO],
        **FILE,
    }


def _get(path: str) -> Object:
    return {"httpGet": {"path": path, "port": 8000, "scheme": "HTTP"}}
