"""What is said of servers that do not come up, by real Deployments, pods and events; the operator is a stand-in."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from airflow_mlplatform.clients.seldon import SeldonDeployments
from airflow_mlplatform.serving.manifest import SeldonManifest
from airflow_mlplatform.serving.model import ServableModel
from airflow_mlplatform.serving.ready import Readiness, readiness
from airflow_mlplatform.serving.view import open_view
from airflow_mlplatform.specs.deployment import Serving
from tests.cluster.seldon_parts import SeldonParts
from tests.cluster.test_seldon_api import opened

PATIENCE = 180.0

# Model and keys of the spec; reason of the failure and whether it lasts, if it is one; what must be told.
CASES: dict[str, tuple[str, dict[str, Any], tuple[str, bool] | None, str]] = {
    "well": ("good", {}, None, "main: 1 pod of this version, all available"),
    "no-image": ("good", {"image": "nosuch"}, ("ImagePull", True), "nosuch cannot be pulled"),
    "no-model": ("missing", {}, ("ModelMissing", True), "at s3://.* lies no model"),
    "crashes": ("crashing", {}, ("ExitCode", False), "No module named 'wine_features'"),
    "too-big": ("greedy", {"resources": {"memory": "64Mi"}}, ("OutOfMemory", True), "raise resources.memory"),
    "late": ("unready", {"ready_timeout": "20s"}, ("Late", False), "main: not available within 20 s: .* is not ready"),
    "unready": ("unready", {}, None, "Kubernetes says: Readiness probe failed"),
    "no-secret": ("good", {"storage_secret": "nosuch"}, ("MissingSecret", True), "the Secret nosuch does not exist"),
    "no-account": ("good", {"service_account": "nosuch"}, ("Refused", True), "create the service account"),
    "no-room": ("good", {"resources": {"cpu": 1000}}, None, "too little free cpu"),
}


def wished(seldon: SeldonParts, name: str) -> SeldonManifest:
    model, keys, _, _ = CASES[name]
    if "image" in keys:
        keys = {**keys, "image": seldon.image(keys["image"])}
    serving = Serving.model_validate({"name": name, "namespace": seldon.kubectl.namespace, **keys})
    return SeldonManifest(serving, ServableModel(uri=seldon.models[model].uri))


def told(name: str, found: Readiness) -> bool:
    _, _, failure, words = CASES[name]
    said = found.failure.message if found.failure else found.account
    as_expected = (found.failure.reason, found.failure.lasting) if found.failure else None
    return as_expected == failure and bool(re.search(words, said, re.DOTALL))


async def outcome(api: SeldonDeployments, seldon: SeldonParts, name: str) -> str:
    """Nothing, if what is expected was told in time; else what was told last."""
    wish = wished(seldon, name)
    await api.apply(wish.manifest([wish.predictor("main")]))
    found = Readiness(False, "nothing")
    try:
        async with asyncio.timeout(PATIENCE), open_view(api, name) as view:
            while not told(name, found := readiness(view.seen)):
                await view.changed(None)
    except TimeoutError:
        return f"{name}: {found}"
    return "" if found.ready == (name == "well") else f"{name}: {found}"


@pytest.mark.long
async def test_what_is_missing_is_told(seldon: SeldonParts) -> None:
    async with opened(seldon.kubectl.namespace) as api:
        found = await asyncio.gather(*(outcome(api, seldon, name) for name in CASES))
    assert [one for one in found if one] == []
