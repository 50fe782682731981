"""What a rendered stack comes to: its pods with what they ask for, also those that operators make of a resource."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.services.stack.rendering import Object

__all__ = ["Container", "Pods", "gibibytes", "pods"]

UNITS = {"": 2.0**-30, "Ki": 2.0**-20, "Mi": 2.0**-10, "Gi": 1.0, "Ti": 2.0**10, "M": 1e6 / 2**30, "G": 1e9 / 2**30}
# Deployments, and what the operators of Kafka, PostgreSQL and Prometheus make pods of.
MAKERS = ("Deployment", "StatefulSet", "DaemonSet", "Job")


@dataclass(frozen=True)
class Container:
    """A container that runs as long as its pod.

    :param image: empty where an operator chooses it.
    """

    name: str
    image: str
    requests: dict[str, str]
    limits: dict[str, str]


@dataclass(frozen=True)
class Pods:
    """The pods of one workload.

    :param spread: whether several of them avoid one node or zone.
    """

    kind: str
    namespace: str
    name: str
    replicas: int
    containers: tuple[Container, ...]
    labels: dict[str, str]
    spread: bool = False

    def memory(self, of: str) -> float:
        """GiB that all of them together request, or may use at most: what has no limit counts what it requests."""
        sums = (getattr(one, of).get("memory") or one.requests.get("memory", "0") for one in self.containers)
        return self.replicas * sum(map(gibibytes, sums))

    def cpus(self) -> float:
        """CPUs that all of them together request."""
        return self.replicas * sum(_cpus(one.requests.get("cpu", "0")) for one in self.containers)


def gibibytes(quantity: str) -> float:
    """A quantity of Kubernetes in GiB."""
    found = re.fullmatch(r"([0-9.]+)([KMGT]i?|)", str(quantity))
    assert found, quantity
    return float(found[1]) * UNITS[found[2]]


def _cpus(quantity: str) -> float:
    text = str(quantity)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def pods(objects: Sequence[Object]) -> Iterator[Pods]:
    """Yield every workload; what a test of Helm's would run is none."""
    reloader = _reloader(objects)
    for found in objects:
        if "test" in (found["metadata"].get("annotations") or {}).get("helm.sh/hook", ""):
            continue
        if found["kind"] in MAKERS:
            metadata = found["spec"]["template"]["metadata"]
            replicas = 1 if found["kind"] in ("DaemonSet", "Job") else found["spec"].get("replicas", 1)
            yield _pods(found, replicas, map(_container, _containers(found)), metadata)
        elif maker := CUSTOM.get(found["kind"]):
            yield from maker(found, reloader)


def _pods(found: Object, replicas: int, containers: Any, metadata: Object, suffix: str = "") -> Pods:
    place = found["metadata"]
    labels = metadata.get("labels", {})
    name = place["name"] + suffix
    return Pods(found["kind"], place["namespace"], name, replicas, tuple(containers), labels, _is_spread(found["spec"]))


def _is_spread(spec: Object) -> bool:
    """By the pod's own rules, those of a Strimzi template, or CloudNativePG's and Prometheus' default."""
    pod = (spec.get("template") or {}).get("spec") or (spec.get("template") or {}).get("pod") or spec
    return bool(
        pod.get("topologySpreadConstraints") or "podAntiAffinity" in (pod.get("affinity") or {}) or "instances" in spec
    )


def _container(given: Object, name: str = "") -> Container:
    resources = given.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    return Container(given.get("name", name), given.get("image", ""), {**limits, **requests}, limits)


def _reloader(objects: Sequence[Object]) -> Container:
    """What Prometheus' operator puts beside each server, by the arguments that it is started with."""
    containers = [one for found in objects if found["kind"] == "Deployment" for one in _containers(found)]
    arguments = " ".join(argument for one in containers for argument in one.get("args", ()))
    options = dict(re.findall(r"--config-reloader-(\S+)=(\S+)", arguments))
    requests, limits = ({"memory": options.get(f"memory-{of}", "0")} for of in ("request", "limit"))
    return Container("config-reloader", "", requests, limits)


def _containers(found: Object) -> list[Object]:
    return list(found["spec"]["template"]["spec"]["containers"])


def _one(found: Object, reloader: Container) -> Iterator[Pods]:
    """A resource whose spec is that of its container."""
    spec = found["spec"]
    image = spec.get("imageName", spec.get("image", ""))
    container = _container({"name": found["kind"].lower(), "image": image, "resources": spec.get("resources")})
    beside = [reloader] if found["kind"] in ("Prometheus", "Alertmanager") else []
    yield _pods(found, spec.get("replicas", spec.get("instances", 1)), [container, *beside], {})


def _around_kafka(found: Object, _: Container) -> Iterator[Pods]:
    spec = found["spec"]
    operators = spec.get("entityOperator") or {}
    yield _pods(found, 1, [_container(one, name) for name, one in operators.items()], {}, "-entity-operator")
    if "kafkaExporter" in spec:
        yield _pods(found, 1, [_container(spec["kafkaExporter"], "exporter")], {}, "-kafka-exporter")


CUSTOM = {
    "Kafka": _around_kafka,
    "KafkaNodePool": _one,
    "KafkaConnect": _one,
    "Cluster": _one,
    "Prometheus": _one,
    "Alertmanager": _one,
}
