"""Whether a cluster can bear the stack: run by ``make stack`` before anything is installed.

``prerequisites.py PROFILE`` needs nothing but Python, ``kubectl``, ``helm`` and ``helmfile``. It ends with 1 and a line
for each thing that is missing, with what to do about it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

KUBERNETES = (1, 30)
TOOLS = {"kubectl": (1, 30), "helm": (3, 19), "helmfile": (1, 0)}
ASKS = {
    "kubectl": ["version", "--client", "-o", "json"],
    "helm": ["version", "--template", "{{.Version}}"],
    "helmfile": ["version", "-o", "short"],
}
# What the pods of each profile request together, with room for worker pods.
NEEDED = {"small": (2.0, 8.0, 1), "production": (12.0, 64.0, 3)}
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "": 1}


@dataclass(frozen=True)
class Found:
    """What the cluster has.

    :param version: of its API server.
    :param cpus: that its nodes let pods use.
    :param memory: the same, in GiB.
    :param nodes: how many take pods.
    :param default_storage: name of its default storage class.
    :param default_ingress: name of its default ingress class.
    :param measures: whether it has a metrics-server, which autoscaling asks.
    :param certifies: whether it has cert-manager.
    """

    version: tuple[int, ...]
    cpus: float
    memory: float
    nodes: int
    default_storage: str = ""
    default_ingress: str = ""
    measures: bool = True
    certifies: bool = True


def problems(found: Found, profile: str) -> Iterator[str]:
    """Yield what is missing, one sentence each."""
    cpus, memory, nodes = NEEDED[profile]
    if found.version < KUBERNETES:
        yield f"Kubernetes is {_dotted(found.version)}; the stack needs {_dotted(KUBERNETES)} or newer: upgrade it"
    if found.nodes < nodes:
        yield f"{found.nodes} nodes take pods; profile {profile} wants {nodes}: add nodes, or use PROFILE=small"
    if found.cpus < cpus or found.memory < memory:
        yield (
            f"the nodes offer {found.cpus:.1f} CPUs and {found.memory:.1f} GiB; profile {profile} needs {cpus:.0f} and "
            f"{memory:.0f} GiB: add nodes, or give kind or k3d's machine more"
        )
    if not found.default_storage:
        yield (
            "there is no default storage class; annotate one with storageclass.kubernetes.io/is-default-class=true, or "
            f"name one as storageClass in helm-values/environments/{profile}.yaml"
        )
    if profile == "production" and not found.measures:
        yield "there is no metrics-server: install it, or set autoscaling.enabled to false"
    if profile == "production" and not found.certifies:
        yield (
            "there is no cert-manager: install it, or bring the certificate istio-ingress/platform-tls and leave "
            "ingress.issuer empty (a note, not an error)"
        )
    if found.default_ingress not in ("", "istio"):
        yield (
            f"{found.default_ingress} is the default ingress class, and may hold ports 80 and 443, which Istio wants: "
            "free them, or set ingress.service to ClusterIP (a note, not an error)"
        )


def look() -> Found:
    """Ask the cluster of KUBECONFIG."""
    nodes = [node for node in _get("nodes") if not node["spec"].get("unschedulable")]
    version = json.loads(_run("kubectl", "version", "-o", "json"))["serverVersion"]["gitVersion"]
    return Found(
        version=_version(version),
        cpus=sum(_amount(node["status"]["allocatable"]["cpu"]) for node in nodes),
        memory=sum(_amount(node["status"]["allocatable"]["memory"]) for node in nodes) / UNITS["Gi"],
        nodes=len(nodes),
        default_storage=_default("storageclasses", "storageclass.kubernetes.io/is-default-class"),
        default_ingress=_default("ingressclasses", "ingressclass.kubernetes.io/is-default-class"),
        measures=any(found["metadata"]["name"].endswith(".metrics.k8s.io") for found in _get("apiservices")),
        certifies=any(found["metadata"]["name"] == "certificates.cert-manager.io" for found in _get("crds")),
    )


def missing_tools() -> Iterator[str]:
    """Yield which commands are missing or too old."""
    for tool, wanted in TOOLS.items():
        if shutil.which(tool) is None:
            yield f"{tool} is not installed; install {_dotted(wanted)} or newer"
            continue
        answer = _run(tool, *ASKS[tool])
        if _version(answer) < wanted:
            yield f"{tool} is {_dotted(_version(answer))}; install {_dotted(wanted)} or newer"


def _get(kind: str) -> list[dict[str, Any]]:
    return list(json.loads(_run("kubectl", "get", kind, "-o", "json"))["items"])


def _default(kind: str, annotation: str) -> str:
    for found in _get(kind):
        if found["metadata"].get("annotations", {}).get(annotation) == "true":
            return str(found["metadata"]["name"])
    return ""


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()}; is KUBECONFIG right?")
    return done.stdout


def _version(text: str) -> tuple[int, ...]:
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _amount(quantity: str) -> float:
    found = re.fullmatch(r"([0-9.]+)(m|[KMGT]i)?", quantity)
    if not found:
        return 0.0
    number, unit = float(found[1]), found[2] or ""
    return number / 1000 if unit == "m" else number * UNITS[unit]


def main(profile: str) -> int:
    """Print what is missing; return 1 if that keeps the stack from coming up."""
    if profile not in NEEDED:
        print(f"there is no profile {profile!r}; choose {' or '.join(NEEDED)}")  # noqa: T201
        return 1
    lacking = list(missing_tools()) or list(problems(look(), profile))
    for line in lacking:
        print(f"- {line}")  # noqa: T201
    return int(any("a note" not in line for line in lacking))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "small"))
