"""Our chart on a real cluster: every resource is accepted, secrets are made once, and its removal loses no data."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.images import Images
from tests.cluster.kubectl import Kubectl
from tests.parts import program
from tests.waiting import wait_for

CHART = Path(__file__).parents[2] / "helm-values" / "platform"
# Namespaces of the operators, whose charts make them in an installation.
FOREIGN = ("monitoring", "istio-ingress", "strimzi")
OURS = ("airflow", "mlflow", "models", "kafka", "databases", "minio")
RELEASE = "mlplatform"


@pytest.fixture(scope="module")
def helm() -> str:
    return program("helm", "install Helm 3.19 or newer: https://helm.sh/docs/intro/install")


@pytest.fixture(scope="module")
def installed(helm: str, images: Images) -> Iterator[None]:
    taken = {found["metadata"]["name"] for found in Kubectl().get("namespaces")} & {*FOREIGN, *OURS, RELEASE}
    assert not taken, f"the namespaces {taken} are there already; this test wants a cluster without the stack"
    for namespace in FOREIGN:
        Kubectl()("create", "namespace", namespace)
    try:
        _helm(helm, "install", images)
        yield
    finally:
        Kubectl()("delete", "namespace", "--ignore-not-found", "--wait=false", *FOREIGN, *OURS, RELEASE)


def _helm(helm: str, verb: str, images: Images, *options: str) -> None:
    registry, tag = images.registry, images.tag
    values = ["--set", f"images.registry={registry}/", "--set", f"images.tag={tag}"]
    command = [helm, verb, "platform", str(CHART), "--namespace", RELEASE, "--create-namespace", *values, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr


def _secrets() -> dict[str, str]:
    found = Kubectl().get("secrets", "--all-namespaces", "--selector", "app.kubernetes.io/part-of=mlplatform")
    return {f"{one['metadata']['namespace']}/{one['metadata']['name']}": one["metadata"]["uid"] for one in found}


def _made(revision: int) -> bool:
    job = Kubectl(RELEASE).get("job", f"make-secrets-{revision}")
    return bool(job.get("status", {}).get("succeeded"))


def _break_what_follows() -> None:
    """As if the password of the database had been changed."""
    Kubectl("databases")("patch", "secret", "mlflow-db", "--patch", '{"stringData": {"password": "changed"}}')


def _password_of_mlflow(namespace: str) -> str:
    return str(Kubectl(namespace).get("secret", "mlflow-db")["data"]["password"])


def _connect_may_read(secret: str) -> bool:
    who = "system:serviceaccount:kafka:platform-connect"
    return Kubectl("kafka")("auth", "can-i", "get", f"secrets/{secret}", "--as", who, check=False).strip() == "yes"


@pytest.mark.usefixtures("installed")
def test_the_chart_lives_as_it_should(helm: str, images: Images) -> None:
    wait_for(lambda: _made(1), "for the job that makes secrets", 120)
    first = _secrets()
    assert {"airflow/airflow-metadata", "mlflow/mlflow-db", "models/s3", "monitoring/grafana-admin"} <= first.keys()
    assert Kubectl("istio-ingress").get("secret", "platform-tls")["type"] == "kubernetes.io/tls"
    _break_what_follows()

    _helm(helm, "upgrade", images, "--set", "connect.secrets={shop}")
    wait_for(lambda: _made(2), "for the job of the upgrade", 120)
    assert _secrets() == first
    assert _password_of_mlflow("mlflow") == _password_of_mlflow("databases")
    assert _connect_may_read("shop")
    assert not _connect_may_read("connect-gate")

    subprocess.run([helm, "uninstall", "platform", "--namespace", RELEASE], check=True, capture_output=True)
    namespaces = {found["metadata"]["name"] for found in Kubectl().get("namespaces")}
    assert namespaces >= set(OURS)
    assert _secrets() == first
    assert Kubectl("kafka").get("kafka", "platform")
