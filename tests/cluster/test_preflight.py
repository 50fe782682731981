"""Candidates tried in throw-away SeldonDeployments, on a real cluster."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed
from airflow_mlplatform.hooks.seldon import open_seldon
from airflow_mlplatform.serving.model import ServableModel
from airflow_mlplatform.serving.throwaway import OWNER, PURPOSE, ThrowAway
from airflow_mlplatform.specs.deployment import Serving
from airflow_mlplatform.training.provenance import Provenance
from airflow_mlplatform.triggers import preflight, seldon_task
from airflow_mlplatform.triggers.preflight import PreflightTrigger
from tests.cluster.image_registry import pinned
from tests.cluster.seldon_parts import SDEPS
from tests.waiting import wait_for

if TYPE_CHECKING:
    from airflow_mlplatform.hooks.mlflow import MlflowHook
    from tests.cluster.images import Images
    from tests.cluster.seldon_parts import SeldonParts


@pytest.fixture
def left(seldon: SeldonParts, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the task leaves in XCom; Airflow's side of a trigger that runs on this machine."""
    found: dict[str, Any] = {}

    async def leave(origin: Provenance, value: Any, key: str = "return_value") -> None:
        found[key] = value

    def url(thrown: ThrowAway) -> str:
        # Names of Services mean something only within the cluster; their addresses do here too.
        service = seldon.kubectl.get("service", f"{thrown.name}-main")
        return f"http://{service['spec']['clusterIP']}:8000"

    monkeypatch.setattr(preflight, "leave", leave)
    monkeypatch.setattr(seldon_task, "leave", leave)
    monkeypatch.setattr(ThrowAway, "url", property(url))
    monkeypatch.setenv("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False")
    monkeypatch.setenv("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", os.environ["KUBECONFIG"])
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", f'{{"conn_type": "mlflow", "host": "{seldon.mlflow_url}"}}')
    return found


def trigger(seldon: SeldonParts, model: str, run: str = "", **serving: Any) -> PreflightTrigger:
    wanted = {"name": "wine", "namespace": seldon.kubectl.namespace, "ready_timeout": "90s", **serving}
    origin = Provenance("wine-deployment", run or uuid4().hex, "preflight", -1, 1, "http://airflow.test")
    version = {"name": seldon.registered_model, "version": seldon.models[model].version}
    return PreflightTrigger(wanted, version, {}, origin.to_json())


async def outcome(tried: PreflightTrigger) -> dict[str, Any]:
    assert tried.origin
    return await tried.work(Provenance.from_json(tried.origin))


def thrown_away(seldon: SeldonParts) -> list[dict[str, Any]]:
    """Those that nobody has removed yet."""
    found = seldon.kubectl.get(SDEPS, "--selector", PURPOSE)
    return [one for one in found if "deletionTimestamp" not in one["metadata"]]


@pytest.fixture(autouse=True)
def nothing_is_left(seldon: SeldonParts) -> Any:
    """Nothing of the throw-aways stays, whatever came of them."""
    yield
    assert not thrown_away(seldon)


@pytest.mark.parametrize("protocol", ["v2", "seldon"])
async def test_a_good_candidate(seldon: SeldonParts, left: dict[str, Any], protocol: str) -> None:
    found = await outcome(trigger(seldon, "good", protocol=protocol, replicas=3))
    assert found == left["return_value"]
    assert f"/versions/{found['version']}" in left["model_version_url"]
    assert (found["model"], found["version"]) == (seldon.registered_model, seldon.models["good"].version)
    assert found["predictions"] == 3


SERVERS = {"v2": "mlplatform-model-server", "seldon": "mlplatform-seldon-server"}


@pytest.mark.long
@pytest.mark.parametrize("protocol", SERVERS)
async def test_a_good_candidate_in_the_real_servers(
    seldon: SeldonParts, left: dict[str, Any], images: Images, protocol: str
) -> None:
    more = {"parameters": {"xtype": "DataFrame"}} if protocol == "seldon" else {}
    found = await outcome(trigger(seldon, "good", protocol=protocol, image=pinned(images(SERVERS[protocol])), **more))
    assert (found["predictions"], left["return_value"]) == (3, found)


@pytest.mark.long
async def test_a_table_without_its_columns_is_named(seldon: SeldonParts, left: dict[str, Any], images: Images) -> None:
    image = pinned(images(SERVERS["seldon"]))
    with pytest.raises(ConfigurationError, match="set serving.parameters: {xtype: DataFrame}"):
        await outcome(trigger(seldon, "good", protocol="seldon", image=image))
    assert "return_value" not in left


@pytest.mark.parametrize(
    ("model", "serving", "error", "words"),
    [
        ("crashing", {}, ConfigurationError, "the image lacks the package wine_features"),
        ("greedy", {"resources": {"memory": "64Mi"}}, ConfigurationError, "needed more memory than its limit of 64Mi"),
        ("missing", {}, ConfigurationError, r"cannot hand out MLmodel of .* see that the folder"),
        ("unready", {"ready_timeout": "15s"}, ProcessFailed, "not up in time: .*is not ready"),
        ("good", {"image": "127.0.0.1:1/nosuch:1", "ready_timeout": "20s"}, ProcessFailed, "nosuch:1 cannot be pulled"),
    ],
)
async def test_what_is_wrong_is_named(
    seldon: SeldonParts, left: dict[str, Any], model: str, serving: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        await outcome(trigger(seldon, model, **serving))
    assert "return_value" not in left


async def test_a_prefix_without_a_model_is_named(
    seldon: SeldonParts, left: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where MLflow finds the model and the storage initializer does not."""
    lost = seldon.models["missing"].uri

    async def resolve(value: Any, hook: MlflowHook) -> ServableModel:
        return ServableModel(name=value["name"], version=value["version"], uri=lost)

    monkeypatch.setattr(preflight, "resolve", resolve)
    with pytest.raises(ConfigurationError, match=f"at {lost} lies no model"):
        await outcome(trigger(seldon, "good"))


async def begun(seldon: SeldonParts, tried: PreflightTrigger) -> tuple[asyncio.Task[dict[str, Any]], str]:
    """The task once its throw-away is there, and the uid of that."""
    running = asyncio.create_task(outcome(tried))
    await asyncio.to_thread(wait_for, lambda: thrown_away(seldon), "for the throw-away")
    return running, thrown_away(seldon)[0]["metadata"]["uid"]


async def test_the_next_triggerer_goes_on_with_it(seldon: SeldonParts, left: dict[str, Any]) -> None:
    first, uid = await begun(seldon, trigger(seldon, "good", "run-1"))
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    second, same = await begun(seldon, trigger(seldon, "good", "run-1"))
    assert same == uid
    assert (await second)["predictions"] == 3


@pytest.mark.long
async def test_a_person_ends_the_task(seldon: SeldonParts, left: dict[str, Any]) -> None:
    tried = trigger(seldon, "unready")
    running, _ = await begun(seldon, tried)
    running.cancel()
    await tried.on_kill()
    with suppress(asyncio.CancelledError):
        await running


@pytest.mark.long
async def test_what_nobody_comes_back_to_is_removed_by_others(seldon: SeldonParts, left: dict[str, Any]) -> None:
    model = ServableModel(uri=seldon.models["good"].uri)
    serving = Serving.model_validate({"name": "wine", "namespace": seldon.kubectl.namespace})
    async with open_seldon(seldon.kubectl.namespace) as cluster:
        for owner, minutes in (("forgotten", -1), ("at-work", 10)):
            expires = datetime.now(UTC) + timedelta(minutes=minutes)
            await cluster.seldon.apply(ThrowAway(serving, model, owner).manifest(expires))
    await outcome(trigger(seldon, "good"))
    assert [one["metadata"]["labels"][OWNER] for one in thrown_away(seldon)] == ["at-work"]
    seldon.kubectl("delete", SDEPS, "wine-preflight-at-work", "--wait=false")
