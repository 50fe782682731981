"""The client for SeldonDeployments with the real API server and Seldon's real resource definition, without operator."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from copy import deepcopy
from typing import Any, TypeVar
from uuid import uuid4

import pytest
import yaml

from airflow_mlplatform.clients.field_owners import Owned
from airflow_mlplatform.clients.kubernetes import Pods
from airflow_mlplatform.clients.kubernetes_api import ObjectRefused
from airflow_mlplatform.clients.seldon import ChangedMeanwhile, Conflict, SeldonDeployments
from airflow_mlplatform.exceptions import ServiceRefused
from airflow_mlplatform.serving.manifest import SeldonManifest
from airflow_mlplatform.serving.model import ServableModel
from airflow_mlplatform.serving.predictor import sharing
from airflow_mlplatform.serving.view import open_view
from airflow_mlplatform.specs.deployment import Serving
from tests.cluster.control_plane import HELM_VALUES
from tests.cluster.kubectl import Kubectl
from tests.parts import require
from tests.waiting import wait_for

Json = dict[str, Any]
T = TypeVar("T")

SDEPS = "seldondeployments.machinelearning.seldon.io"
GET_SELDON = (
    "a Kubernetes cluster with Seldon's CRD: set KUBECONFIG, have kubectl on PATH, apply seldondeployments.yaml"
)
ROLE = HELM_VALUES / "platform" / "rbac-models.yaml"
EVERYTHING: Json = {
    "resources": {"cpu": "500m", "memory": "1Gi"},
    "autoscale": {"min": 1, "max": 3},
    "storage_secret": "s3",
    "service_account": "servers",
    "node_selector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "env": {"A": "1", "B": {"secret": "s", "key": "k"}},
    "log_level": "DEBUG",
    "parameters": {"xtype": "DataFrame", "n": 3, "share": 0.5, "wide": True},
}


@pytest.fixture(scope="module")
def kubectl() -> Iterator[Kubectl]:
    require(shutil.which("kubectl") and os.environ.get("KUBECONFIG"), GET_SELDON)
    cluster = Kubectl()
    require(cluster("get", "crd", SDEPS, "-o", "name", check=False), GET_SELDON)
    name = f"seldon-api-{uuid4().hex[:6]}"
    cluster("create", "namespace", name)
    yield Kubectl(name)
    cluster("delete", "namespace", name, "--wait=false")


@pytest.fixture
def name(kubectl: Kubectl) -> Iterator[str]:
    name = f"wine-{uuid4().hex[:6]}"
    yield name
    kubectl("delete", SDEPS, name, "--ignore-not-found")


def wish(kubectl: Kubectl, name: str, **keys: Any) -> SeldonManifest:
    serving = Serving.model_validate({"name": name, "namespace": kubectl.namespace, **keys})
    return SeldonManifest(serving, ServableModel(name="wine", version="3", run_id="ab12", uri="s3://models/wine/3"))


def whole(kubectl: Kubectl, name: str, **keys: Any) -> Json:
    wished = wish(kubectl, name, **keys)
    return wished.manifest([wished.predictor("main")])


@asynccontextmanager
async def opened(namespace: str, account: str = "") -> AsyncIterator[SeldonDeployments]:
    from kubernetes_asyncio import client, config

    configuration = client.Configuration()
    await config.load_kube_config(client_configuration=configuration)
    async with client.ApiClient(configuration) as api:
        if account:
            api.set_default_header("Impersonate-User", account)
        yield SeldonDeployments(api, namespace)


def ask(kubectl: Kubectl, question: Callable[[SeldonDeployments], Awaitable[T]], account: str = "") -> T:
    async def asked() -> T:
        async with opened(kubectl.namespace, account) as seldon:
            return await question(seldon)

    return asyncio.run(asked())


def apply(kubectl: Kubectl, manifest: Json, **options: bool) -> Json:
    return ask(kubectl, lambda seldon: seldon.apply(manifest, **options))


def lacking(wished: Any, found: Any, where: str = "") -> Iterator[str]:
    """Yield what of a manifest has not come to be."""
    if isinstance(wished, dict) and isinstance(found, dict):
        for key, value in wished.items():
            yield from lacking(value, found.get(key), f"{where}.{key}")
    elif isinstance(wished, list) and isinstance(found, list) and len(wished) == len(found):
        for index, (one, other) in enumerate(zip(wished, found, strict=True)):
            yield from lacking(one, other, f"{where}[{index}]")
    elif wished != found:
        yield f"{where}: {wished!r} is {found!r}"


class TestApply:
    @pytest.mark.parametrize("protocol", ["v2", "seldon"])
    def test_the_definition_knows_every_field_that_a_spec_can_set(
        self, kubectl: Kubectl, name: str, protocol: str
    ) -> None:
        wished = whole(kubectl, name, protocol=protocol, image="mine:1", **EVERYTHING)
        assert list(lacking(wished, apply(kubectl, wished))) == []

    def test_a_dry_run_leaves_nothing(self, kubectl: Kubectl, name: str) -> None:
        found = apply(kubectl, whole(kubectl, name), dry_run=True)
        assert found["spec"]["predictors"][0]["name"] == "main"
        assert ask(kubectl, lambda seldon: seldon.get(name)) is None

    def test_the_same_again_changes_nothing(self, kubectl: Kubectl, name: str) -> None:
        versions = {apply(kubectl, whole(kubectl, name))["metadata"]["resourceVersion"] for _ in range(2)}
        assert len(versions) == 1

    def test_what_others_set_stays(self, kubectl: Kubectl, name: str) -> None:
        apply(kubectl, whole(kubectl, name))
        kubectl("label", SDEPS, name, "team=a")
        notes = {"seldon.io/rest-timeout": "9"}
        kubectl("patch", SDEPS, name, "--type=merge", "-p", json.dumps({"spec": {"annotations": notes}}))
        kubectl("scale", SDEPS, name, "--replicas=3")
        found = apply(kubectl, whole(kubectl, name, image="mine:2"))
        assert found["metadata"]["labels"]["team"] == "a"
        assert (found["spec"]["annotations"], found["spec"]["replicas"]) == (notes, 3)

    def test_what_is_ours_and_not_said_any_more_goes(self, kubectl: Kubectl, name: str) -> None:
        wished = wish(kubectl, name)
        main = wished.predictor("main")
        apply(kubectl, wished.manifest([sharing(main, 75), sharing(wished.predictor("candidate"), 25)]))
        found = apply(kubectl, wished.manifest([main]))
        assert [one["name"] for one in found["spec"]["predictors"]] == ["main"]

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"trafic": 3}, r"\.trafic: field not declared in schema"),
            ({"replicas": "x"}, r"expected numeric .* got string"),
            ({"name": None}, r"spec\.predictors\[0\]\.name"),
        ],
    )
    def test_mistakes_are_refused_and_named(self, kubectl: Kubectl, name: str, change: Json, why: str) -> None:
        wished = whole(kubectl, name)
        wished["spec"]["predictors"][0] |= change
        with pytest.raises(ObjectRefused, match=why) as caught:
            apply(kubectl, wished, dry_run=True)
        assert caught.value.status == 422


class TestConflict:
    def edited(self, kubectl: Kubectl, name: str, manager: str = "kubectl-edit") -> None:
        step = {"op": "replace", "path": "/spec/predictors/0/replicas", "value": 2}
        kubectl("patch", SDEPS, name, "--type=json", f"--field-manager={manager}", "-p", json.dumps([step]))

    def test_a_persons_edit_stays_and_is_told(self, kubectl: Kubectl, name: str) -> None:
        apply(kubectl, whole(kubectl, name))
        self.edited(kubectl, name)
        with pytest.raises(Conflict, match=r"kubectl-edit manages spec\.predictors") as caught:
            apply(kubectl, whole(kubectl, name))
        assert caught.value.owned == (Owned("spec.predictors", "kubectl-edit"),)
        (left,) = kubectl.get(SDEPS, name)["spec"]["predictors"]
        assert left["replicas"] == 2

    def test_to_say_the_same_is_no_conflict(self, kubectl: Kubectl, name: str) -> None:
        apply(kubectl, whole(kubectl, name))
        self.edited(kubectl, name)
        apply(kubectl, whole(kubectl, name, replicas=2))

    @pytest.mark.parametrize("maker", ["person", "kubectl", "nobody"])
    def test_the_command_in_the_message_hands_it_over(self, kubectl: Kubectl, name: str, maker: str) -> None:
        foreign = whole(kubectl, name, template={"metadata": {"labels": {"team": "a"}}}, replicas=2)
        if maker == "person":
            apply(kubectl, whole(kubectl, name))
            kubectl("label", SDEPS, name, "team=a")
            self.edited(kubectl, name)
        else:
            kubectl.apply(foreign)
        if maker == "nobody":
            kubectl("patch", SDEPS, name, "--type=merge", "-p", '{"metadata": {"managedFields": [{}]}}')
        with pytest.raises(Conflict) as caught:
            apply(kubectl, whole(kubectl, name))
        (command,) = re.findall(r"kubectl .*", str(caught.value))
        kubectl(*shlex.split(command)[1:])
        found = apply(kubectl, whole(kubectl, name))
        assert found["spec"]["predictors"][0]["replicas"] == 1
        assert found["metadata"]["labels"]["team"] == "a"


class TestVersions:
    def test_a_write_in_between_is_found_out(self, kubectl: Kubectl, name: str) -> None:
        wished = whole(kubectl, name)
        seen = apply(kubectl, wished)["metadata"]
        kubectl("label", SDEPS, name, "team=a")
        wished["metadata"] |= {"uid": seen["uid"], "resourceVersion": seen["resourceVersion"]}
        with pytest.raises(ChangedMeanwhile, match="was changed by somebody in the meantime"):
            apply(kubectl, wished)

    def test_one_that_has_gone_is_not_made_anew(self, kubectl: Kubectl, name: str) -> None:
        wished = whole(kubectl, name)
        seen = apply(kubectl, wished)["metadata"]
        wished["metadata"] |= {"uid": seen["uid"], "resourceVersion": seen["resourceVersion"]}
        ask(kubectl, lambda seldon: seldon.delete(name, seen["uid"]))
        wait_for(lambda: ask(kubectl, lambda seldon: seldon.get(name)) is None, f"until {name} has gone")
        with pytest.raises(ChangedMeanwhile):
            apply(kubectl, wished)

    def test_another_one_of_that_name_is_not_removed(self, kubectl: Kubectl, name: str) -> None:
        apply(kubectl, whole(kubectl, name))
        ask(kubectl, lambda seldon: seldon.delete(name, str(uuid4())))
        assert kubectl.get(SDEPS, name)["metadata"].get("deletionTimestamp") is None


def test_the_api_groups_tell_that_seldon_is_there(kubectl: Kubectl) -> None:
    assert {"machinelearning.seldon.io", "apps"} <= ask(kubectl, lambda seldon: seldon.groups())


@pytest.fixture(scope="module")
def account(kubectl: Kubectl) -> str:
    """The triggerer, with the shipped role in the namespace of the models."""
    kubectl("create", "serviceaccount", "airflow-triggerer")
    for document in yaml.safe_load_all(ROLE.read_text("utf-8")):
        for subject in document.get("subjects", ()):
            subject["namespace"] = kubectl.namespace
        kubectl.apply(document)
    pod = {"containers": [{"name": "a", "image": "nosuch.invalid/a"}]}
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server"}, "spec": pod})
    return f"system:serviceaccount:{kubectl.namespace}:airflow-triggerer"


class TestRights:
    """The shipped role is enough, and nothing in it is too much."""

    def test_it_is_enough(self, kubectl: Kubectl, name: str, account: str) -> None:
        ask(kubectl, lambda seldon: everything(seldon, whole(kubectl, name)), account)

    @pytest.mark.parametrize(
        ("resource", "verb"),
        [
            (resource, verb)
            for rule in next(yaml.safe_load_all(ROLE.read_text("utf-8")))["rules"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        ],
    )
    def test_without_it_something_breaks(
        self, kubectl: Kubectl, name: str, account: str, resource: str, verb: str
    ) -> None:
        question = watching if verb == "watch" else everything
        manifest = whole(kubectl, name)
        with without(kubectl, account, resource, verb), pytest.raises(ServiceRefused) as caught:
            ask(kubectl, lambda seldon: question(seldon, manifest), account)
        assert f'cannot {verb} resource "{resource}"' in str(caught.value)


@contextmanager
def without(kubectl: Kubectl, account: str, resource: str, verb: str) -> Iterator[None]:
    """Take one verb away."""
    shipped = next(yaml.safe_load_all(ROLE.read_text("utf-8")))
    reduced = deepcopy(shipped)
    for rule in reduced["rules"]:
        if rule["resources"] == [resource]:
            rule["verbs"].remove(verb)
    reduced["rules"] = [rule for rule in reduced["rules"] if rule["verbs"]]

    def may() -> bool:
        kind, _, sub = resource.partition("/")
        words = ["auth", "can-i", verb, kind, f"--subresource={sub}", f"--as={account}"]
        return kubectl(*words, check=False).strip() == "yes"

    kubectl.apply(reduced)
    wait_for(lambda: not may(), f"until it may not {verb} {resource}")
    try:
        yield
    finally:
        kubectl.apply(shipped)
        wait_for(may, f"until it may {verb} {resource}")


async def everything(seldon: SeldonDeployments, manifest: Json) -> None:
    """Do all that a rollout does."""
    name = manifest["metadata"]["name"]
    made = await seldon.apply(manifest)
    await seldon.labelled("app.kubernetes.io/managed-by=airflow-mlplatform")
    async with open_view(seldon, name) as view:
        manifest["metadata"]["labels"]["changed"] = "yes"
        await seldon.apply(manifest)
        while view.live is None or "changed" not in view.live["metadata"]["labels"]:
            await view.changed(None)
    await Pods(seldon._api, seldon.namespace).last_lines("server", "a", 1)
    await seldon.delete(name, made["metadata"]["uid"])


async def watching(seldon: SeldonDeployments, manifest: Json) -> None:
    """Wait for what never comes."""
    async with asyncio.timeout(60), open_view(seldon, manifest["metadata"]["name"]) as view:
        while True:
            await view.changed(None)
