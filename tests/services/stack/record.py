"""What is recorded of the rendered stack, so that tests without the charts of others can ask.

``CHARTS=… python -m tests.services.stack.record`` writes the records anew; without CHARTS those of our own chart. With
``former`` as its argument it writes those too that the next release is compared with: to be done when a release has
been made, before anything is changed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.services.stack.inventory import Pods, pods
from tests.services.stack.rendering import RELEASES, Object, chart_folder, is_installed, render

__all__ = ["RECORDED", "RECORDED_PROFILES", "record", "records"]

RECORDED = Path(__file__).parents[2] / "unit" / "stack" / "rendered"
RECORDED_PROFILES = ("small", "inside")
KEEP = "helm.sh/resource-policy"
# Kind → the fields that Kubernetes refuses to change, or that data hangs on.
FIXED = {
    "Deployment": ("selector",),
    "DaemonSet": ("selector",),
    "StatefulSet": ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"),
    "PersistentVolumeClaim": ("accessModes", "storageClassName"),
    "Service": ("clusterIP",),
    "Kafka": (),
    "KafkaNodePool": ("roles", "storage"),
    "KafkaConnect": ("groupId", "configStorageTopic", "offsetStorageTopic", "statusStorageTopic"),
    "KafkaTopic": (),
    "KafkaUser": (),
    "Cluster": ("storage",),
    "Database": ("name", "owner"),
    "Namespace": (),
}
# With these go data: Helm may never delete them.
DATA = (
    "Namespace",
    "PersistentVolumeClaim",
    "Kafka",
    "KafkaNodePool",
    "KafkaTopic",
    "KafkaUser",
    "Cluster",
    "Database",
)


def record(release: str, profile: str) -> dict[str, Any]:
    """Everything that is recorded of a release in a profile."""
    objects = render(release, profile)
    found = {
        "pods": {f"{one.kind}/{one.namespace}/{one.name}": _told(one) for one in pods(objects)},
        "budgets": [one["spec"]["selector"]["matchLabels"] for one in objects if one["kind"] == "PodDisruptionBudget"],
        "scaled": {
            one["spec"]["scaleTargetRef"]["name"]: one["spec"]["minReplicas"]
            for one in objects
            if one["kind"] == "HorizontalPodAutoscaler"
        },
        "fixed": {_place(one): _fixed(one) for one in objects if one["kind"] in FIXED},
        "kept": sorted(_place(one) for one in objects if one["kind"] in DATA and _is_kept(one)),
        "definitions": dict(sorted(_definitions(objects, chart_folder(release)))) if objects else {},
        "secrets": _secrets(objects),
    }
    return {key: value for key, value in found.items() if value}


def _place(found: Object) -> str:
    return f"{found['kind']}/{found['metadata']['namespace']}/{found['metadata']['name']}"


def _told(one: Pods) -> dict[str, Any]:
    containers = {
        container.name: {
            "image": container.image,
            "cpu": container.requests.get("cpu", ""),
            "memory": container.requests.get("memory", ""),
            "limit": container.limits.get("memory", ""),
        }
        for container in one.containers
    }
    return {"replicas": one.replicas, "labels": one.labels, "spread": one.spread, "containers": containers}


def _fixed(found: Object) -> dict[str, Any]:
    spec = found.get("spec", {})
    return {name: spec[name] for name in FIXED[found["kind"]] if name in spec}


def _is_kept(found: Object) -> bool:
    return (found["metadata"].get("annotations") or {}).get(KEEP) == "keep"


def _definitions(objects: Sequence[Object], folder: Path) -> Iterator[tuple[str, str]]:
    """Custom resources, and why Helm leaves them where they are: its rule for the folder `crds`, or an annotation."""
    files = [path for path in folder.rglob("crds/*.yaml") if "templates" not in path.parts]
    own = {name for path in files for name in re.findall(r"^  name: (\S+)$", path.read_text("utf-8"), re.MULTILINE)}
    for found in objects:
        if found["kind"] == "CustomResourceDefinition":
            name = found["metadata"]["name"]
            yield name, "folder" if name in own else "kept" if _is_kept(found) else "REMOVED"


def _secrets(objects: Sequence[Object]) -> dict[str, list[str]]:
    """The secrets that our chart makes, and their keys."""
    for found in objects:
        if "secrets.yaml" in (found.get("data") or {}):
            wished = yaml.safe_load(found["data"]["secrets.yaml"])
            return {
                f"{one['namespace']}/{one['name']}": sorted(one.get("data", ["tls.crt", "tls.key"])) for one in wished
            }
    return {}


class _Dumper(yaml.SafeDumper):
    """Writes what occurs twice twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write(name: str, content: dict[str, Any]) -> None:
    text = yaml.dump(content, Dumper=_Dumper, default_flow_style=None, width=140)
    (RECORDED / f"{name}.yaml").write_text(f"# Made by tests/services/stack/record.py.\n{text}", "utf-8")


def records(profile: str) -> dict[str, Any]:
    """The record of every release that a profile has; the one that there is for those whose charts are not at hand."""
    former = RECORDED / f"{profile}.yaml"
    there = yaml.safe_load(former.read_text("utf-8")) if former.is_file() else {}
    return {name: _recorded(name, profile, there) for name in RELEASES if is_installed(name, profile)}


def _recorded(release: str, profile: str, there: dict[str, Any]) -> dict[str, Any]:
    try:
        return record(release, profile)
    except pytest.skip.Exception:
        return dict(there[release])


def main(arguments: list[str]) -> None:
    """Write the records; those of a former release have only what may not change."""
    for profile in RECORDED_PROFILES:
        _write(profile, found := records(profile))
        if "former" in arguments:
            what = ("fixed", "definitions", "secrets")
            _write(
                f"former-{profile}",
                {name: {key: one[key] for key in what if key in one} for name, one in found.items()},
            )


if __name__ == "__main__":
    main(sys.argv[1:])
