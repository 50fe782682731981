"""A real API server takes every resource of the whole stack, with the definitions of its charts; nothing is made."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster.kubectl import Kubectl
from tests.services.stack.rendering import RELEASES, Object, render
from tests.waiting import wait_for

pytestmark = pytest.mark.long

# Helm makes these in another order, or by itself: their account comes with them, and cert-manager is not of the stack.
LATER = {("Pod", "kube-prometheus-stack-grafana-test"), ("Certificate", "platform-tls")}


@pytest.fixture(scope="module")
def prepared(node_ip: str) -> Iterator[None]:
    """Definitions and namespaces that the cluster lacks; they go again."""
    objects = [found for release in RELEASES for found in render(release, "inside")]
    names = {found["metadata"]["namespace"] for found in objects}
    definitions = [_plain(found) for found in objects if found["kind"] == "CustomResourceDefinition"]
    namespaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in sorted(names)]
    made = [_made(found) for found in [*definitions, *namespaces]]
    try:
        wait_for(lambda: "cnpg" in Kubectl()("api-resources", "--api-group", "postgresql.cnpg.io"), "for kinds", 60)
        yield
    finally:
        for name in filter(None, made):
            Kubectl()("delete", name, "--wait=false")


def _plain(definition: Object) -> Object:
    metadata = {key: value for key, value in definition["metadata"].items() if key != "namespace"}
    return {**definition, "metadata": metadata}


def _made(found: Object) -> str:
    """Make an object unless it is there; return the name of what was made."""
    name = f"{found['kind'].lower()}/{found['metadata']['name']}"
    if Kubectl()("get", name, "--ignore-not-found", "-o", "name"):
        return ""
    Kubectl()("create", "-f", "-", given=json.dumps(found))
    return name


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("profile", ["small", "inside"])
@pytest.mark.parametrize("release", RELEASES)
def test_every_resource_is_taken(release: str, profile: str) -> None:
    objects = [found for found in render(release, profile) if found["kind"] != "CustomResourceDefinition"]
    wanted = [found for found in objects if (found["kind"], found["metadata"]["name"]) not in LATER]
    given = json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted})
    options = ["--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"]
    Kubectl()("apply", *options, "-f", "-", given=given)
