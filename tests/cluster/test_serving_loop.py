"""From a training to the champion that serves, and no further than it deserves: the whole loop, on its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from mlflow import MlflowClient

from airflow_mlplatform.demo.airflow_api import DagRun
from airflow_mlplatform.serving.predictor import NODE
from tests.cluster.grapes import DEPLOYMENT, GRAPES, measurements, publish_grapes, train
from tests.cluster.image_registry import pinned
from tests.cluster.images import Images
from tests.cluster.platform import ClusterPlatform
from tests.cluster.proxy import Proxies
from tests.cluster.seldon_history import Written
from tests.cluster.seldon_load import Load, load
from tests.cluster.seldon_models import StoredModel
from tests.cluster.seldon_parts import SeldonParts
from tests.cluster.serving_platform import ServingPlatform, serving_platform

CANARY = (5, 25, 50, 100)
STEPS = ["5 %", "25 %", "50 %", "100 %", "new model behind the former name", "no requests for the candidate"]
WHOLE = "one predictor"
OTHER_ACTIONS = {"rollback": "skipped", "scale": "skipped", "teardown": "skipped"}


@pytest.fixture(scope="module")
def serving(
    platform: ClusterPlatform, seldon: SeldonParts, proxies: Proxies, images: Images
) -> Iterator[ServingPlatform]:
    """The platform, on which a first model of grapes, a mediocre one that somebody registered by hand, serves."""
    with serving_platform(platform, seldon, proxies) as serving:
        publish_grapes(serving, pinned(images("mlplatform-model-server")))
        register_by_hand(serving.registry, seldon.models["good"])
        first = serving.run_after(DEPLOYMENT, 0)
        assert first.state == "success", platform.explain(first)
        yield serving


def register_by_hand(registry: MlflowClient, model: StoredModel) -> None:
    registry.log_metric(model.run_id, "log_loss", 0.44)
    registry.create_registered_model(GRAPES)
    version = registry.create_model_version(GRAPES, model.uri, model.run_id)
    registry.set_registered_model_alias(GRAPES, "challenger", version.version)


def challenged(serving: ServingPlatform, strength: float, scaling: str = "standard") -> DagRun:
    """Train a challenger and return the deployment's run that it started, at its end."""
    before = len(serving.platform.api.runs(DEPLOYMENT))
    train(serving, strength, scaling)
    return serving.run_after(DEPLOYMENT, before)


def callers(serving: ServingPlatform, body: dict[str, Any]) -> AbstractContextManager[Load]:
    """Callers of the endpoint, while the block runs."""
    url = f"{serving.seldon.gateway_url}/seldon/{serving.seldon.kubectl.namespace}/{GRAPES}"
    return load(f"{url}/v2/models/{NODE}/infer", 20, body)


def source(serving: ServingPlatform, version: str) -> str:
    """Where the model of a version lies."""
    return str(serving.registry.get_model_version_download_uri(GRAPES, version))


def test_a_better_model_is_trained_and_becomes_the_champion_by_a_canary(serving: ServingPlatform) -> None:
    former = serving.aliases(GRAPES)["champion"]
    written = len(serving.history.of(GRAPES))
    with callers(serving, measurements()) as load:
        run = challenged(serving, 1.0)
    assert (run.state, run.run_type) == ("success", "asset_triggered"), serving.platform.explain(run)
    new = serving.aliases(GRAPES)["champion"]
    assert serving.aliases(GRAPES) == {"champion": new, "previous-champion": former, "challenger": new}
    told = serving.platform.api.xcom(run, "deploy")
    assert (told["result"], told["former_version"], told["version"]) == ("done", former, new)
    assert told["steps"] == [*STEPS, WHOLE]
    was, now = source(serving, former), source(serving, new)
    assert now.startswith("s3://mlflow/")
    assert serving.history.of(GRAPES)[written:] == canary(was, now)
    assert set(load.codes()) == {200}, load.problems


def canary(was: str, now: str) -> list[Written]:
    """What a canary that goes well writes, in its order."""
    steps = [Written({"main": was, "candidate": now}, {"main": 100 - share, "candidate": share}) for share in CANARY]
    both = {"main": now, "candidate": now}
    end = [Written(both, {"main": 0, "candidate": 100}), Written(both, {"main": 100, "candidate": 0})]
    return [*steps, *end, Written({"main": now}, {"main": 100})]


@pytest.mark.long
def test_a_worse_model_is_refused_and_nothing_is_touched(serving: ServingPlatform) -> None:
    before, aliases, written = serving.whole(GRAPES), serving.aliases(GRAPES), len(serving.history.of(GRAPES))
    run = challenged(serving, 0.0001)
    refused = dict.fromkeys(("gate", "preflight", "deploy", "promote"), "skipped")
    assert serving.states(run) == {"turn": "success", **refused, **OTHER_ACTIONS}
    assert serving.whole(GRAPES) == before
    assert len(serving.history.of(GRAPES)) == written
    worse = serving.registry.get_model_version_by_alias(GRAPES, "challenger")
    assert serving.aliases(GRAPES) == {**aliases, "challenger": worse.version}
    assert worse.tags["mlplatform.verdict"] == "refused"
    assert "log_loss" in worse.tags["mlplatform.verdict.reasons"]


@pytest.mark.long
def test_a_model_that_fails_at_25_percent_is_taken_back(serving: ServingPlatform) -> None:
    before, aliases, written = serving.whole(GRAPES), serving.aliases(GRAPES), len(serving.history.of(GRAPES))
    body = measurements()
    with callers(serving, body) as load:
        runs = len(serving.platform.api.runs(DEPLOYMENT))
        train(serving, 10.0, "box-cox")
        serving.platform.wait_until("the candidate has 25 %", lambda: shares(serving) == {"main": 75, "candidate": 25})
        body.update(measurements(malic_acid=0.0))
        run = serving.run_after(DEPLOYMENT, runs)
    states = serving.states(run)
    assert (states["preflight"], states["deploy"], states["promote"]) == ("success", "failed", "upstream_failed")
    assert serving.platform.tries(run, "deploy") == 1
    serving.platform.wait_for_log(run, "deploy", "errors")
    new = serving.registry.get_model_version_by_alias(GRAPES, "challenger").version
    assert serving.history.of(GRAPES)[written:] == taken_back(
        source(serving, aliases["champion"]), source(serving, new)
    )
    assert serving.whole(GRAPES) == before
    assert serving.aliases(GRAPES) == {**aliases, "challenger": new}
    # The model answers 500 to what it cannot know; nobody is sent to servers that are going.
    assert set(load.codes()) == {200, 500}, load.problems


def shares(serving: ServingPlatform) -> dict[str, int]:
    """How traffic is divided now."""
    return serving.history.of(GRAPES)[-1].shares


def taken_back(was: str, now: str) -> list[Written]:
    """What a canary writes that goes back at 25 %, in its order."""
    both = {"main": was, "candidate": now}
    steps = [Written(both, {"main": 100 - share, "candidate": share}) for share in (5, 25, 0)]
    return [*steps, Written({"main": was}, {"main": 100})]
