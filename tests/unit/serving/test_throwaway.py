"""The SeldonDeployment in which a candidate is tried."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_mlplatform.serving.manifest import SeldonManifest
from airflow_mlplatform.serving.model import ServableModel
from airflow_mlplatform.serving.throwaway import EXPIRES, OWNER, PURPOSE, ThrowAway, expired
from airflow_mlplatform.specs.deployment import Serving

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MODEL = ServableModel(name="wine", version="7", run_id="r1", uri="s3://models/wine/7")
OWNED = "0123456789abcdef0123456789abcdef"
TEMPLATE: dict[str, Any] = {
    "metadata": {"annotations": {"seldon.io/ambassador-config": "x", "team": "a"}, "labels": {"team": "a"}},
    "spec": {
        "annotations": {"seldon.io/rest-timeout": "1000"},
        "predictors": [
            {
                "name": "default",
                "annotations": {"seldon.io/svc-name": "live"},
                "explainer": {"type": "AnchorTabular"},
                "graph": {"name": "clf"},
                "componentSpecs": [
                    {"hpaSpec": {"maxReplicas": 9}, "replicas": 3, "spec": {"containers": [{"name": "clf"}]}}
                ],
            }
        ],
    },
}


def thrown(**serving: Any) -> ThrowAway:
    return ThrowAway(Serving.model_validate({"name": "wine", "namespace": "models", **serving}), MODEL, OWNED)


def test_the_same_servers_as_those_that_will_serve() -> None:
    serving = {"replicas": 5, "storage_secret": "s3", "image": "mine:1", "protocol": "seldon", "log_level": "DEBUG"}
    tried = thrown(**serving)
    found = tried.manifest(NOW)["spec"]
    wish = SeldonManifest(tried.serving, MODEL)
    real = wish.spec([wish.predictor("main")])
    assert found["predictors"][0] | {"replicas": 5} == real["predictors"][0]
    assert found["predictors"][0]["replicas"] == 1
    assert {key: found[key] for key in found if key != "predictors"} == wish.shared


def test_what_leads_to_the_live_one_is_left_out() -> None:
    tried = thrown(template=TEMPLATE, replicas=2)
    found = tried.manifest(NOW)
    predictor = found["spec"]["predictors"][0]
    assert found["metadata"]["annotations"].keys() >= {"team", EXPIRES}
    assert "seldon" not in "".join(found["metadata"]["annotations"])
    assert found["spec"]["annotations"] == {"seldon.io/rest-timeout": "1000"}
    assert "seldon.io/svc-name" not in predictor["annotations"]
    assert predictor.keys() & {"explainer"} == set()
    assert predictor["componentSpecs"][0].keys() & {"hpaSpec", "replicas"} == set()
    assert (tried.node, tried.url) == ("clf", "http://wine-preflight-01234567-default.models:8000")


def test_names() -> None:
    metadata = thrown().manifest(NOW)["metadata"]
    assert metadata["name"] == "wine-preflight-01234567"
    assert (metadata["labels"][PURPOSE], metadata["labels"][OWNER]) == ("wine", OWNED)
    long = thrown(name=f"{'a' * 39}-{'b' * 20}")
    assert long.name == f"{'a' * 39}-preflight-01234567"
    assert len(long.name) <= 63


def test_when_anybody_may_remove_it() -> None:
    found = thrown().manifest(NOW)
    assert not expired(found, NOW)
    assert expired(found, NOW + timedelta(seconds=1))
    found["metadata"]["annotations"][EXPIRES] = "soon"
    assert not expired(found, NOW + timedelta(days=9))


@pytest.mark.parametrize("metadata", [{}, {"annotations": {EXPIRES: "2020-01-01T00:00:00+00:00"}}])
def test_what_is_none_of_ours_stays(metadata: dict[str, Any]) -> None:
    assert not expired({"metadata": {"name": "wine", **metadata}}, NOW)
