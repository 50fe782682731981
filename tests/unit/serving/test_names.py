"""Names that the operator gives, compared with recorded ones and with the stand-in's."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlplatform.serving.names import (
    Expected,
    expected_deployments,
    host,
    object_labels,
    resource_id,
    service_name,
)
from tests.cluster.seldon_stand_in_objects import components
from tests.cluster.seldon_stand_in_predictor import Installation

LONG = "a-really-long-deployment-name-that-goes-on-and-on-and-on"
SERVER = {"name": "classifier", "implementation": "MLFLOW_SERVER", "modelUri": "s3://m/x"}


def predictor(name: str = "main", **more: Any) -> dict[str, Any]:
    return {"name": name, "graph": SERVER, **more}


def named(found: tuple[Expected, ...]) -> list[str]:
    return [min(one.names) for one in found]


def test_short_names_are_put_together() -> None:
    assert named(expected_deployments("iris", {}, predictor())) == ["iris-main-0-classifier"]
    assert service_name("iris", predictor()) == "iris-main"
    assert host("models", "iris", predictor("challenger")) == "iris-challenger.models.svc.cluster.local"


def test_long_names_are_hashed_as_recorded() -> None:
    main = predictor("main-predictor-name")
    (found,) = expected_deployments(LONG, {}, main)
    assert found.names == {"seldon-b1d59fa9d65fdf71f986bafdd36132a6"}
    assert service_name(LONG, main) == "seldon-53e0f67a4b1a47d0037088a20e2e91e5"


def test_the_operator_may_prefix_a_hash_with_the_name_if_that_fits() -> None:
    name = "a-name-of-thirty-characters-xx"
    (found,) = expected_deployments(name, {}, predictor("a-rather-long-name-of-a-predictor"))
    plain, prefixed = sorted(found.names, key=len)
    assert plain.startswith("seldon-")
    assert prefixed == f"{name}-{plain.removeprefix('seldon-')}"


def test_the_label_of_a_long_name_is_its_hash() -> None:
    assert resource_id("iris") == "iris"
    assert object_labels("x" * 64) == {"seldon-deployment-id": resource_id("x" * 64)}
    assert len(resource_id("x" * 64)) == 39


def test_components_are_named_by_all_their_containers_or_by_themselves() -> None:
    main = predictor(
        componentSpecs=[
            {"spec": {"containers": [{"name": "helper"}]}},
            {"metadata": {"name": "extra"}, "spec": {"containers": [{"name": "one"}, {"name": "two"}]}},
            {"spec": {"containers": []}},
        ]
    )
    assert named(expected_deployments("iris", {}, main)) == ["iris-main-0-helper-classifier", "iris-main-1-extra"]


def test_a_separate_engine_and_an_explainer_are_deployments_too() -> None:
    spec = {"annotations": {"seldon.io/engine-separate-pod": "true"}}
    main = predictor(replicas=2, explainer={"type": "AnchorTabular"}, svcOrchSpec={"replicas": 3})
    found = expected_deployments("iris", spec, main)
    assert named(found) == ["iris-main-0-classifier", "iris-main-svc-orch", "iris-main-explainer"]
    assert [one.replicas for one in found] == [2, 3, None]


@pytest.mark.parametrize(
    ("spec", "own", "component", "replicas"),
    [
        ({}, {}, {}, None),
        ({"replicas": 4}, {}, {}, 4),
        ({"replicas": 4}, {"replicas": 2}, {}, 2),
        ({"replicas": 4}, {"replicas": 0}, {}, 0),
        ({}, {"replicas": 2}, {"replicas": 3}, 3),
        ({}, {"replicas": 2}, {"hpaSpec": {"maxReplicas": 3}}, None),
    ],
)
def test_the_nearest_number_of_replicas_counts_unless_load_decides(
    spec: dict[str, Any], own: dict[str, Any], component: dict[str, Any], replicas: int | None
) -> None:
    (found,) = expected_deployments("iris", spec, predictor(**own, componentSpecs=[component]))
    assert found.replicas == replicas


def test_a_service_may_have_a_name_of_its_own() -> None:
    assert service_name("iris", predictor(annotations={"seldon.io/svc-name": "mine"})) == "mine"


@pytest.mark.parametrize("name", ["iris", LONG])
def test_the_stand_in_for_the_operator_gives_the_same_names(name: str) -> None:
    main = predictor("main-predictor-name", replicas=1, traffic=100)
    spec = {"protocol": "v2", "predictors": [main]}
    sdep = {"metadata": {"name": name, "namespace": "models", "uid": "u"}, "spec": spec}
    installation = Installation(servers={("MLFLOW_SERVER", "v2"): "server"}, executor="executor", initializer="init")
    made = components(sdep, installation)
    (found,) = expected_deployments(name, spec, main)
    assert set(made.deployments) <= found.names
