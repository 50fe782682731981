"""Every custom resource that the stack makes is one that its definition allows, down to the last key."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.parts import program, require
from tests.services.stack.rendering import PROFILES, RELEASES, Object, has_whole_chart, render

# Definitions that neither a chart of the stack nor CRDS brings.
UNKNOWN = {"Certificate"}
FINE = ("statusValid", "statusSkipped")


def _definitions() -> Iterator[Object]:
    """Those of the folder that CRDS names, and those in the whole charts of CHARTS, which win."""
    folder = os.environ.get("CRDS")
    require(folder or os.environ.get("CHARTS"), "CRDS is to name a folder with the stack's custom resource definitions")
    for path in sorted(Path(folder).glob("*.yaml")) if folder else ():
        yield from filter(None, yaml.load_all(path.read_text("utf-8"), yaml.CSafeLoader))
    for release in filter(has_whole_chart, RELEASES):
        yield from (found for found in render(release, "inside") if found["kind"] == "CustomResourceDefinition")


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for each kind and version, named as kubeconform is told to look for them."""
    folder = tmp_path_factory.mktemp("schemas")
    for definition in _definitions():
        _write_schemas(folder, definition)
    return folder


def _write_schemas(folder: Path, definition: Object) -> None:
    kind = definition["spec"]["names"]["kind"].lower()
    for version in definition["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        schema.setdefault("properties", {}).update(apiVersion={}, kind={}, metadata={})
        name = f"{definition['spec']['group']}_{kind}_{version['name']}.json"
        (folder / name).write_text(json.dumps(_strict(schema)), "utf-8")


def _strict(schema: Any) -> Any:
    """Refuses keys that the definition does not have, as the API server does for `kubectl apply --validate=strict`."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    closed = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if closed and not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
        strict["additionalProperties"] = False
    return strict


@pytest.mark.parametrize("profile", PROFILES)
def test_custom_resources_are_as_they_are_defined(schemas: Path, profile: str, tmp_path: Path) -> None:
    """Those of our chart, and of the others that are at hand."""
    releases = [release for release in RELEASES if has_whole_chart(release)]
    objects = [found for release in releases for found in render(release, profile) if _is_custom(found)]
    assert {"Kafka", "Gateway"} <= {found["kind"] for found in objects}
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(yaml.safe_dump_all(objects), "utf-8")
    location = f"{schemas}/{{{{.Group}}}}_{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json"
    command = program("kubeconform", "install kubeconform: https://github.com/yannh/kubeconform")
    options = ["-strict", "-ignore-missing-schemas", "-output", "json", "-verbose", "-schema-location", location]
    done = subprocess.run([command, *options, str(manifest)], capture_output=True, text=True, check=False)
    results = json.loads(done.stdout)["resources"]
    assert len(results) == len(objects)
    assert {one["kind"] for one in results if one["status"] == "statusSkipped"} <= UNKNOWN
    assert [(one["kind"], one["name"], one["msg"]) for one in results if one["status"] not in FINE] == []


def _is_custom(found: Object) -> bool:
    group = found["apiVersion"].rpartition("/")[0]
    return "." in group and not group.endswith("k8s.io")
