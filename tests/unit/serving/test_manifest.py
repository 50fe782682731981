"""The resource around its predictors."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.serving.manifest import SeldonManifest
from airflow_mlplatform.serving.model import ServableModel
from airflow_mlplatform.serving.predictor import sharing
from airflow_mlplatform.specs.deployment import Serving

MODEL = ServableModel(name="wine", version="3", run_id="ab12", uri="s3://models/wine/3")
RUN = {"mlplatform.airflow/dag_id": "deploy-wine", "mlplatform.airflow/run_id": "manual__1"}


def wished(annotations: dict[str, str] | None = None, **keys: Any) -> SeldonManifest:
    return SeldonManifest(Serving.model_validate({"name": "wine", **keys}), MODEL, annotations or {})


def test_it_says_what_it_serves_and_who_wished_it() -> None:
    wish = wished(RUN)
    found = wish.manifest([wish.predictor("main")])
    assert (found["apiVersion"], found["kind"]) == ("machinelearning.seldon.io/v1", "SeldonDeployment")
    assert found["metadata"] == {
        "name": "wine",
        "namespace": "models",
        "labels": {"app.kubernetes.io/managed-by": "airflow-mlplatform"},
        "annotations": {
            "mlplatform.airflow/model": "wine",
            "mlplatform.airflow/version": "3",
            "mlplatform.airflow/mlflow_run": "ab12",
            "mlplatform.airflow/model_uri": "s3://models/wine/3",
            **RUN,
        },
    }
    assert found["spec"] == {"protocol": "v2", "predictors": [wish.predictor("main")]}


def test_no_pod_notices_who_wished_it() -> None:
    assert wished(RUN).predictor("main") == wished().predictor("main")
    assert wished(RUN).digest == wished().digest


@pytest.mark.parametrize(
    "keys", [{"replicas": 2}, {"protocol": "seldon"}, {"template": {"metadata": {"labels": {"a": "b"}}}}]
)
def test_another_wish_has_another_digest(keys: dict[str, Any]) -> None:
    assert wished(**keys).digest != wished().digest


def test_a_template_keeps_what_is_around_the_predictors() -> None:
    template = {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {"name": "other", "labels": {"team": "a"}, "annotations": {"note": "kept"}},
        "spec": {
            "annotations": {"seldon.io/rest-timeout": "9"},
            "transport": "rest",
            "predictors": [{"name": "default"}],
        },
    }
    wish = wished(template=template)
    found = wish.manifest([wish.predictor(wish.main)])
    assert found["metadata"]["name"] == "wine"
    assert (found["metadata"]["labels"]["team"], found["metadata"]["annotations"]["note"]) == ("a", "kept")
    assert wish.shared == {"annotations": {"seldon.io/rest-timeout": "9"}, "transport": "rest", "protocol": "v2"}
    assert [one["name"] for one in found["spec"]["predictors"]] == ["default"]


def test_predictors_that_stay_are_taken_as_they_are() -> None:
    foreign = {"name": "default", "graph": {"name": "x"}, "labels": {"team": "a"}}
    wish = wished()
    found = wish.manifest([sharing(foreign, 75), sharing(wish.predictor("candidate"), 25)])
    assert found["spec"]["predictors"][0] == {**foreign, "traffic": 75}


@pytest.mark.parametrize("wrong", [{"kind": "Deployment"}, {"apiVersion": "machinelearning.seldon.io/v1alpha2"}])
def test_a_template_of_something_else_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"serving\.template: (kind|apiVersion) is .*; convert it"):
        wished(template=wrong).manifest([])
