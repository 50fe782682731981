"""The wine ETL on the KubernetesExecutor: each stage a pod, data on S3, nothing left behind."""

from __future__ import annotations

import pytest

from airflow_mlplatform.demo.airflow_api import DagRun
from tests.cluster.platform import ClusterPlatform
from tests.cluster.wine import publish_wine

STAGES = ["extract", "transform_1", "check", "load"]


@pytest.fixture(scope="module")
def run(platform: ClusterPlatform) -> DagRun:
    """A run of the wine ETL that has succeeded."""
    publish_wine(platform)
    return platform.succeed(platform.run_number("wine-etl", 1))


def test_the_data_lies_on_s3(platform: ClusterPlatform, run: DagRun) -> None:
    assert platform.api.xcom(run, "load")["rows"] == 178
    assert any(key.endswith(".parquet") for key in platform.services.objects("pond/wine"))


def test_each_stage_was_one_pod(platform: ClusterPlatform, run: DagRun) -> None:
    pods = platform.pods.workers_of(run)
    assert [pod.annotations["task_id"] for pod in pods] == STAGES
    platform.pods.wait_until_deleted(pods)


PATIENT = """\
apiVersion: mlplatform/v1
kind: etl
name: patient
schedule: null
start: 2026-01-01
stages: fused
defaults:
  resources: {{cpu: 200m, memory: 700Mi}}
  service_account: mlplatform-training
  node_selector: {{kubernetes.io/os: linux}}
  env: {{GREETING: hello, TOKEN: {{secret: mlplatform-credentials, key: AWS_SECRET_ACCESS_KEY}}}}
extract: {{files: {{uri: "pond://raw/patient.csv"}}}}
load: {{uri: "pond://patient.parquet"}}
"""


def test_a_pod_is_as_its_spec_says_and_shows_no_secret(
    platform: ClusterPlatform, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("raw") / "patient.csv"
    file.write_text("a,b\n1,2\n")
    platform.services.upload(file, "pond/raw/patient.csv")
    platform.publish({"patient.yaml": PATIENT.format()}, "patient")
    (pod,) = platform.pods.workers_of(platform.succeed(platform.start("patient")))
    spec = pod.last["spec"]
    base = spec["containers"][0]
    assert base["resources"]["limits"] == {"cpu": "200m", "memory": "700Mi"}
    assert base["image"].startswith(platform.images.registry)
    assert spec["serviceAccountName"] == "mlplatform-training"
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert {"name": "GREETING", "value": "hello"} in base["env"]
    assert not [mount for mount in base["volumeMounts"] if "serviceaccount" in mount["mountPath"]]
    assert platform.services.s3_password not in str(pod.events)
