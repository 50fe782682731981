"""The two model servers of `docker/` serve one real MLflow model, each over its protocol, with the same answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.cluster.api_server import ApiServer
from tests.cluster.images import Images
from tests.cluster.seldon_models import WineModels
from tests.cluster.seldon_parts import GRAPH, SDEPS, SeldonParts
from tests.waiting import wait_for

SERVERS = {"v2": "mlplatform-model-server", "seldon": "mlplatform-seldon-server"}
PACKAGES = {"v2": "mlserver 1.7.1", "seldon": "seldon-core 1.17.1"}
PATHS = {"v2": f"v2/models/{GRAPH}/infer", "seldon": "api/v1.0/predictions"}


def manifest(seldon: SeldonParts, images: Images, name: str, protocol: str) -> dict[str, Any]:
    """The good model, by an image of ours."""
    found = seldon.manifest(name, good=100)
    (predictor,) = found["spec"]["predictors"]
    resources = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
    container = {"name": GRAPH, "image": images(SERVERS[protocol]), "imagePullPolicy": "Always", "resources": resources}
    predictor["componentSpecs"] = [{"spec": {"containers": [container]}}]
    predictor["progressDeadlineSeconds"] = 180
    if protocol == "seldon":
        predictor["graph"]["parameters"] = [{"name": "xtype", "type": "STRING", "value": "DataFrame"}]
    found["spec"]["protocol"] = protocol
    return found


@pytest.fixture(scope="module")
def served(seldon: SeldonParts, images: Images) -> Iterator[dict[str, str]]:
    """Protocol → name of the SeldonDeployment that serves the model over it."""
    names = {protocol: seldon.name() for protocol in SERVERS}
    for protocol, name in names.items():
        seldon.kubectl.apply(manifest(seldon, images, name, protocol))
    for name in names.values():
        seldon.wait_until_serving(name, 180)
    yield names
    for name in names.values():
        seldon.kubectl("delete", SDEPS, name)


@pytest.fixture(scope="module")
def example(wine_models: WineModels) -> dict[str, Any]:
    """The model's own input example: `columns` and `data`."""
    found = json.loads((wine_models.saved / "serving_input_example.json").read_text("utf-8"))
    return dict(found["dataframe_split"])


def request(protocol: str, example: dict[str, Any]) -> dict[str, Any]:
    if protocol == "seldon":
        return {"data": {"names": example["columns"], "ndarray": example["data"]}}
    columns = zip(example["columns"], zip(*example["data"], strict=True), strict=True)
    shape = [len(example["data"]), 1]
    inputs = [{"name": name, "datatype": "FP64", "shape": shape, "data": list(values)} for name, values in columns]
    return {"parameters": {"content_type": "pd"}, "inputs": inputs}


def predictions(answer: dict[str, Any]) -> list[Any]:
    """The numbers in an answer of either protocol."""
    return list(answer["data"]["ndarray"] if "data" in answer else answer["outputs"][0]["data"])


def test_both_give_the_answers_of_the_model(
    seldon: SeldonParts, served: dict[str, str], example: dict[str, Any], wine_models: WineModels
) -> None:
    import mlflow.pyfunc
    import pandas as pd

    model = mlflow.pyfunc.load_model(str(wine_models.saved))
    wanted = [int(kind) for kind in model.predict(pd.DataFrame(example["data"], columns=example["columns"]))]
    assert len(set(wanted)) > 1
    api = ApiServer()
    for protocol, name in served.items():
        service = f"/api/v1/namespaces/{seldon.kubectl.namespace}/services/{name}-main:8000/proxy"
        answer = api.ask("POST", f"{service}/{PATHS[protocol]}", request(protocol, example))
        assert predictions(answer) == wanted, protocol
    api.close()


@pytest.mark.parametrize("protocol", SERVERS)
def test_errors_are_answers_and_counted(
    seldon: SeldonParts, served: dict[str, str], example: dict[str, Any], protocol: str
) -> None:
    lacking = {"columns": example["columns"][1:], "data": [row[1:] for row in example["data"]]}
    answer = httpx.post(
        f"{seldon.gateway_url}/seldon/{seldon.kubectl.namespace}/{served[protocol]}/{PATHS[protocol]}",
        json=request(protocol, lacking),
        timeout=60,
    )
    assert answer.status_code >= 400
    assert example["columns"][0] in answer.text, "the answer tells what is missing"
    labels = f'deployment_name="{served[protocol]}",service="predictions",code="{answer.status_code}"'
    wait_for(lambda: seldon.query(f"seldon_api_executor_server_requests_seconds_count{{{labels}}}"))


@pytest.mark.parametrize("protocol", SERVERS)
def test_the_log_begins_with_versions(seldon: SeldonParts, served: dict[str, str], protocol: str) -> None:
    (pod,) = seldon.kubectl.pods(f"seldon-deployment-id={served[protocol]}")
    assert pod["spec"]["securityContext"]["runAsUser"] == 8888
    first = seldon.kubectl("logs", pod["metadata"]["name"], "-c", GRAPH).splitlines()[0]
    assert first.startswith("Python 3.11.")
    assert PACKAGES[protocol] in first
    assert "scikit-learn 1." in first
