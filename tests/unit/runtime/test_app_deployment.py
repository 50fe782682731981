"""The Deployment of a streaming application."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.runtime.app_deployment import VERSION, AppDeployment, deployment_name
from airflow_mlplatform.runtime.pod_manifest import Identity, PodSetup
from airflow_mlplatform.specs.common import Defaults
from airflow_mlplatform.specs.streaming import App

TEMPLATE = {
    "spec": {
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [{"name": "base", "env": [{"name": "HOME", "value": "/home"}, {"name": "A", "value": "b"}]}],
    }
}
SETUP = PodSetup("ml", "platform:1", template=TEMPLATE)
APP: dict[str, Any] = {
    "image": "example:1",
    "git": {"url": "https://git.example.org/a.git#app", "ref": "main", "secret": {"secret": "git", "key": "token"}},
    "entrypoint": ["python", "main.py"],
    "replicas": 3,
    "env": {"LEVEL": "info", "PASSWORD": {"secret": "db", "key": "password"}},
    "probes": {"port": 8080, "ready": "/readyz", "live": "/healthz"},
    "grace": "20s",
}
DEFAULTS: dict[str, Any] = {
    "service_account": "apps",
    "node_selector": {"pool": "apps"},
    "labels": {"team": "shop"},
    "env": {"LEVEL": "debug", "TZ": "UTC", "DB": {"connection": "shop"}},
    "resources": {"cpu": 1, "memory": "1Gi"},
}


def deployment(name: str = "shop", commit: str = "c0ffee", paused: bool = False, **changes: Any) -> AppDeployment:
    app = App.model_validate({**APP, **changes})
    return AppDeployment(name, app, Defaults.model_validate(DEFAULTS), commit, paused)


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return dict(manifest["spec"]["template"]["spec"])


def test_the_app_is_what_the_spec_says() -> None:
    manifest = deployment().manifest(SETUP)
    spec, pod = manifest["spec"], pod_of(manifest)
    assert (spec["replicas"], spec["progressDeadlineSeconds"], spec["minReadySeconds"]) == (3, 900, 10)
    assert (pod["serviceAccountName"], pod["nodeSelector"]) == ("apps", {"pool": "apps"})
    assert (pod["terminationGracePeriodSeconds"], pod["imagePullSecrets"]) == (20, [{"name": "pull"}])
    (app,) = pod["containers"]
    assert (app["image"], app["command"], app["workingDir"]) == (
        "example:1",
        ["python", "main.py"],
        "/mlplatform/project",
    )
    values = {one["name"]: one.get("value", one.get("valueFrom")) for one in app["env"]}
    assert (values["LEVEL"], values["TZ"]) == ("info", "UTC")
    assert values["PASSWORD"] == {"secretKeyRef": {"name": "db", "key": "password"}}
    assert "DB" not in values
    assert app["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
    assert app["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


def test_it_meets_pod_security_restricted() -> None:
    pod = pod_of(deployment().manifest(SETUP))
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_code_is_fetched_by_commit_with_a_token_that_is_on_no_command_line() -> None:
    (code,) = pod_of(deployment().manifest(SETUP))["initContainers"]
    names = [one["name"] for one in code["env"]]
    assert len(names) == len(set(names)), "server-side apply takes each name once"
    values = {one["name"]: one for one in code["env"]}
    request = json.loads(values["MLPLATFORM_PROJECT"]["value"])
    assert (request["version"], request["uri"], request["entry_point"]) == ("c0ffee", APP["git"]["url"], None)
    assert values["MLPLATFORM_GIT_SECRET"]["valueFrom"]["secretKeyRef"] == {"name": "git", "key": "token"}
    assert "token" not in json.dumps(code["command"])
    (app,) = pod_of(deployment().manifest(SETUP))["containers"]
    assert not [one for one in app["env"] if "GIT" in one["name"]]


def test_a_pod_asks_what_the_branch_means() -> None:
    identity = Identity("shop", "run", "app", -1, 1, "0123456789abcdef", "work")
    (main,) = deployment().fetch_pod(SETUP, identity)["spec"]["containers"]
    request = json.loads(next(one["value"] for one in main["env"] if one["name"] == "MLPLATFORM_PROJECT"))
    assert request["version"] == "main"
    assert deployment().fetch_work != deployment(git={"url": "https://git.example.org/b.git"}).fetch_work


def test_an_image_may_hold_the_code() -> None:
    pod = pod_of(deployment(git=None, entrypoint=(), commit="").manifest(SETUP))
    assert pod["initContainers"] == []
    assert not {"command", "workingDir"} & pod["containers"][0].keys()


def test_a_version_is_what_its_pods_do_and_nothing_else() -> None:
    def version(**changes: Any) -> str:
        manifest = deployment(**changes).manifest(SETUP)
        return str(manifest["spec"]["template"]["metadata"]["labels"][VERSION])

    assert version() == version(replicas=5) == version(paused=True)
    assert len({version(), version(commit="d00d"), version(image="example:2"), version(env={})}) == 4


def test_paused_is_without_pods() -> None:
    assert deployment(paused=True).manifest(SETUP)["spec"]["replicas"] == 0


def test_names_fit_kubernetes_and_tell_apart() -> None:
    assert deployment_name("clicks") == "clicks"
    names = ["My_App", "my.app", "my-app-", "a" * 80, "a" * 81, "1st", "_", "x" * 48, "Ü" * 3]
    made = [deployment_name(name) for name in names]
    assert len(set(made)) == len(names)
    for name in made:
        assert len(name) <= 47
        assert name.replace("-", "").isalnum()
        assert name[0].isalpha()
        assert name == name.lower()
        assert name[-1] != "-"


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"app\.env\.P: the password of the Airflow connection"):
        deployment(env={"P": {"connection": "shop"}}).manifest(SETUP)
    with pytest.raises(ConfigurationError, match="the app shop has no image"):
        deployment(image=None).manifest(SETUP)
