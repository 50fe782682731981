"""The pod of a training: what stands in it, and what must not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.runtime.pod_manifest import Identity, PodSetup
from airflow_mlplatform.training.plan import TrainingPlan
from airflow_mlplatform.training.training_pod import TrainingPod

IDENTITY = Identity("shop", "manual__2026-01-01T00:00:00+00:00", "train.C-0.1", -1, 2, "0123456789abcdef", "w")
WORKER = {
    "name": "base",
    "image": "airflow:1",
    "env": [{"name": "AIRFLOW_HOME", "value": "/opt/airflow"}],
    "envFrom": [{"secretRef": {"name": "git-of-the-bundle"}}],
    "volumeMounts": [{"name": "home", "mountPath": "/opt/airflow"}, {"name": "tmp", "mountPath": "/tmp"}],
}
SETUP = PodSetup(
    namespace="ml",
    image="",
    service_account="training",
    credentials_secret="credentials",
    template={
        "spec": {
            "containers": [WORKER],
            "imagePullSecrets": [{"name": "registry"}],
            "volumes": [{"name": "home", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
            "serviceAccountName": "airflow-worker",
            "tolerations": [{"operator": "Exists"}],
        }
    },
)


def training(uri: str = "https://git.test/wine.git#project", version: str | None = "main", **plan: Any) -> TrainingPod:
    return TrainingPod(uri, version, {"C": "0.1"}, TrainingPlan(**plan))


def manifest(pod: TrainingPod, setup: PodSetup = SETUP, image: str = "trainer:1") -> dict[str, Any]:
    return pod.manifest(setup, IDENTITY, "run-id", "7", image=image, tracking_uri="http://mlflow:5000")


def container(found: dict[str, Any], name: str) -> dict[str, Any]:
    spec = found["spec"]
    return next(one for one in [*spec["initContainers"], *spec["containers"]] if one["name"] == name)


def env(of: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in of["env"]}


def test_the_project_comes_first_and_the_users_image_runs_it() -> None:
    found = manifest(training(pod={"image": "ours/trainer:3"}))
    project, train = container(found, "project"), container(found, "train")
    assert (project["image"], train["image"]) == ("airflow:1", "ours/trainer:3")
    assert json.loads(env(project)["MLPLATFORM_PROJECT"])["uri"] == "https://git.test/wine.git#project"
    assert train["command"][6:9] == ["mlflow", "run", "/mlplatform/project"]
    assert train["command"][train["command"].index("--run-id") + 1] == "run-id"
    assert env(train)["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"


def test_a_project_in_the_image_needs_nothing_before_it() -> None:
    found = manifest(training(uri="/opt/project", version=None))
    assert found["spec"]["initContainers"] == []
    assert "/opt/project" in container(found, "train")["command"]


def test_it_has_no_rights() -> None:
    spec = manifest(training())["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == "training"
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for name in ("project", "train"):
        security = container({"spec": spec}, name)["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}


def test_only_the_init_container_sees_the_git_secret() -> None:
    found = manifest(training(secret={"secret": "git", "key": "token"}))
    project, train = container(found, "project"), container(found, "train")
    assert env(project)["MLPLATFORM_GIT_SECRET"] == {"secretKeyRef": {"name": "git", "key": "token"}}
    assert env(project)["MLPLATFORM_GIT_KNOWN_HOSTS"]["secretKeyRef"]["optional"] is True
    assert "git" not in json.dumps(train["env"]).lower().replace("mlflow_tracking", "")
    assert {"secretRef": {"name": "git-of-the-bundle"}} not in train["envFrom"]


def test_what_the_init_container_leaves_in_tmp_is_its_own() -> None:
    found = manifest(training())
    places = [
        {mount["mountPath"]: mount["name"] for mount in container(found, name)["volumeMounts"]}
        for name in ("project", "train")
    ]
    assert places[0]["/mlplatform"] == places[1]["/mlplatform"]
    assert places[0]["/tmp"] != places[1]["/tmp"]


def test_only_the_training_has_the_credentials() -> None:
    found = manifest(training())
    assert container(found, "train")["envFrom"] == [{"secretRef": {"name": "credentials"}}]
    assert {"secretRef": {"name": "credentials"}} not in container(found, "project")["envFrom"]


def test_resources_and_place_come_from_the_spec() -> None:
    plan = {
        "resources": {"cpu": 2, "memory": "4Gi", "gpu": 1},
        "node_selector": {"gpu": "a100"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "labels": {"team": "wine"},
    }
    found = manifest(training(pod=plan))
    limits = container(found, "train")["resources"]["limits"]
    assert limits == {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"}
    assert "nvidia.com/gpu" not in json.dumps(container(found, "project")["resources"])
    assert found["spec"]["nodeSelector"] == {"gpu": "a100"}
    assert found["spec"]["tolerations"] == [{"operator": "Exists"}, {"key": "gpu", "operator": "Exists"}]
    assert found["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert found["metadata"]["labels"]["team"] == "wine"


def test_labels_fit_and_annotations_tell_all() -> None:
    metadata = manifest(training())["metadata"]
    assert all(len(value) <= 63 and value[:1].isalnum() for value in metadata["labels"].values())
    assert metadata["annotations"]["mlplatform.airflow/run_id"] == IDENTITY.run_id
    assert len(metadata["name"]) <= 63


def test_names_of_long_ids_differ() -> None:
    long = replace(IDENTITY, dag_id="d" * 200)
    assert len(long.name) <= 63
    assert long.name != replace(long, key="fedcba9876543210").name


def test_kubernetes_ends_it_should_nobody_be_there() -> None:
    assert manifest(training(timeout=1800.0))["spec"]["activeDeadlineSeconds"] == 1800


def test_without_an_image() -> None:
    with pytest.raises(ConfigurationError, match="defaults.image"):
        manifest(training(), image="")


def test_without_an_image_of_ours() -> None:
    with pytest.raises(ConfigurationError, match="platform_image"):
        manifest(training(), PodSetup("ml", ""))


def test_the_password_of_a_connection_would_show() -> None:
    with pytest.raises(ConfigurationError, match="Kubernetes Secret"):
        manifest(training(env={"TOKEN": {"connection": "shop"}}))


def test_secrets_are_named() -> None:
    found = manifest(training(env={"TOKEN": {"secret": "s", "key": "k"}, "MODE": "fast"}))
    variables = env(container(found, "train"))
    assert variables["TOKEN"] == {"secretKeyRef": {"name": "s", "key": "k"}}
    assert variables["MODE"] == "fast"


@pytest.mark.parametrize(
    "other",
    [
        training(version="develop"),
        training(uri="https://git.test/other.git"),
        training(environment="uv"),
        training(entry_point="other"),
        training(pod={"image": "another:1"}),
        replace(training(), parameters={"C": "0.2"}),
    ],
)
def test_other_work_has_another_fingerprint(other: TrainingPod) -> None:
    assert other.fingerprint != training().fingerprint
    assert other.work != training().work


def test_more_memory_is_the_same_training_in_another_pod() -> None:
    larger = training(pod={"resources": {"memory": "8Gi"}})
    assert larger.fingerprint == training().fingerprint
    assert larger.work != training().work
