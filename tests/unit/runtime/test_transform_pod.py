from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.runtime.pod_manifest import Identity, PodSetup
from airflow_mlplatform.runtime.transform_pod import Staged, TransformPod
from airflow_mlplatform.specs.common import Defaults
from airflow_mlplatform.specs.etl import ContainerTransform
from airflow_mlplatform.steps.pod_step import ORDER, Order

SETUP = PodSetup("pipelines", "platform:1", credentials_secret="credentials")
IDENTITY = Identity("shop", "run 1", "transform_1", -1, 1, "k" * 32, "w")
POD = TransformPod(
    transform=ContainerTransform.model_validate(
        {"image": "example/clean:1", "command": ["clean"], "env": {"A": "1", "INPUT": "mine"}}
    ),
    defaults=Defaults.model_validate(
        {
            "resources": {"memory": "2Gi", "gpu": 1},
            "env": {"LEVEL": "info", "TOKEN": {"secret": "s", "key": "k"}, "PASSWORD": {"connection": "shop"}},
        }
    ),
    staging="s3://staging",
    source=Staged("extract"),
    target=Staged("transform_1"),
)


def containers(pod: TransformPod = POD) -> dict[str, Any]:
    spec = pod.manifest(SETUP, IDENTITY)["spec"]
    return {found["name"]: found for found in [*spec["initContainers"], *spec["containers"]]}


def env(container: dict[str, Any]) -> dict[str, Any]:
    return {found["name"]: found.get("value", found.get("valueFrom")) for found in container["env"]}


def test_the_containers_run_in_order_and_only_ours_have_credentials() -> None:
    found = containers()
    assert list(found) == ["input", "transform", "output"]
    assert found["input"]["envFrom"] == found["output"]["envFrom"] == [{"secretRef": {"name": "credentials"}}]
    assert found["transform"]["envFrom"] == []
    assert found["transform"]["image"] == "example/clean:1"
    assert found["transform"]["resources"]["limits"] == {"memory": "2Gi", "nvidia.com/gpu": "1"}
    assert found["input"]["command"] == ["python", "-m", "airflow_mlplatform.steps.staged_input"]
    # A command may be relative to the image's own folder.
    assert "workingDir" not in found["transform"]


def test_the_users_container_has_its_variables_and_its_paths() -> None:
    given = env(containers()["transform"])
    assert given["INPUT"] == "/mlplatform/input.parquet"
    assert given["OUTPUT"] == "/mlplatform/output.parquet"
    assert (given["A"], given["LEVEL"], given["HOME"]) == ("1", "info", "/tmp")
    assert given["TOKEN"] == {"secretKeyRef": {"name": "s", "key": "k"}}
    assert "PASSWORD" not in given
    assert ORDER not in given


def test_the_orders_are_understood() -> None:
    found = containers(replace(POD, source=Staged("extract", listing="list")))
    order = Order.model_validate_json(env(found["input"])[ORDER])
    assert (order.task, order.listing, order.run_id, str(order.path)) == (
        "extract", "list", "run 1", "/mlplatform/input.parquet"
    )  # fmt: skip
    assert Order.model_validate_json(env(found["output"])[ORDER]).task == "transform_1"


def test_the_work_is_another_for_another_image_input_or_try() -> None:
    other = [
        replace(POD, transform=ContainerTransform(image="example/clean:2")),
        replace(POD, source=Staged("extract", listing="list")),
        replace(POD, attempt="0199"),
        replace(POD, staging="s3://elsewhere"),
    ]
    assert len({pod.work for pod in (POD, *other)}) == 5
    assert replace(POD).work == POD.work


def test_passwords_of_connections_would_show() -> None:
    transform = ContainerTransform.model_validate({"image": "x", "env": {"P": {"connection": "shop"}}})
    with pytest.raises(ConfigurationError, match=r"container\.env\.P: the password of the Airflow connection 'shop'"):
        containers(replace(POD, transform=transform))
    json.dumps(POD.manifest(SETUP, IDENTITY))
