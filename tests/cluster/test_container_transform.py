"""Containers that know nothing of Airflow, as transforms: one pod, no worker, whatever dies meanwhile."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from airflow_mlplatform.demo.airflow_api import DagRun
from tests.cluster.platform import ClusterPlatform
from tests.cluster.pod_history import SeenPod

IMAGE = "mlplatform-test-mlflow:dev"  # Python with pandas, without Airflow
WORK = """
import os, sys, pandas
assert not [name for name in os.environ if name.startswith(("AWS_", "AIRFLOW"))], sorted(os.environ)
assert not os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token")
data = pandas.read_parquet(os.environ["INPUT"])
data["price"] = data.price * float(os.environ["FACTOR"])
print("worked on", len(data), "rows", flush=True)
"""
FILE = WORK + "data.to_parquet(os.environ['OUTPUT'])"
FOLDER = WORK + "data.to_parquet(os.environ['OUTPUT'], partition_cols=['shop'])"
SLOW = WORK + "import time; time.sleep(12)\ndata.to_parquet(os.environ['OUTPUT'])"
CSV = WORK + "data.to_csv(os.environ['OUTPUT'])"
NOTHING = WORK
FAILS = WORK + "sys.exit('the model is missing')"


def spec(platform: ClusterPlatform, name: str, code: str, **container: Any) -> str:
    """An ETL whose only transform is a container."""
    transform = {"image": f"{platform.images.registry}/{IMAGE}", "command": ["python", "-c", textwrap.dedent(code)]}
    return yaml.safe_dump(
        {
            "apiVersion": "mlplatform/v1", "kind": "etl", "name": name, "retries": {"count": 1, "delay": "1s"},
            "params": {"factor": {"type": "integer", "default": 10}},
            "defaults": {"labels": {"team": "shops"}, "resources": {"cpu": "100m", "memory": "1Gi"}},
            "extract": {"files": {"uri": "pond://raw/shops/*.csv"}},
            "transform": [{"container": {**transform, "env": {"FACTOR": "{{ params.factor }}"}, **container}}],
            "load": {"uri": f"pond://{name}"},
        }
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def specs(platform: ClusterPlatform, tmp_path_factory: pytest.TempPathFactory) -> None:
    """All specs of these tests, and what they read."""
    file = tmp_path_factory.mktemp("raw") / "a.csv"
    file.write_text("id,shop,price\n1,a,1\n2,b,2\n3,a,3\n")
    platform.services.upload(file, "pond/raw/shops/a.csv")
    codes = {"file": FILE, "folder": FOLDER, "slow": SLOW, "csv": CSV, "nothing": NOTHING, "fails": FAILS}
    files = {f"shops/{name}.yaml": spec(platform, f"container-{name}", code) for name, code in codes.items()}
    files["shops/absent.yaml"] = spec(platform, "container-absent", FILE, image=f"{platform.images.registry}/absent:1")
    names = [Path(file).stem for file in files]
    platform.publish(files, *(f"container-{name}" for name in names))


def own_pods(platform: ClusterPlatform, run: DagRun) -> list[SeenPod]:
    return [
        pod
        for pod in platform.pods.others()
        if pod.annotations.get("mlplatform.airflow/dag_id") == run.dag_id
        and pod.annotations.get("mlplatform.airflow/run_id") == run.run_id
    ]


def prices(platform: ClusterPlatform, place: str) -> list[float]:
    (file,) = (name for name in platform.services.objects(place) if name.endswith(".parquet"))
    table = pq.read_table(file, filesystem=platform.services.filesystem())
    return sorted(table["price"].to_pylist())


def wait_for_work(platform: ClusterPlatform, run: DagRun) -> str:
    """Wait until the user's container runs; the pod's name."""

    def running() -> str | None:
        for pod in own_pods(platform, run):
            states = {found["name"]: found["state"] for found in pod.last["status"].get("initContainerStatuses", ())}
            if not pod.deleted and "running" in states.get("transform", {}):
                return pod.name
        return None

    return platform.wait_until("the container works", running, 120)


@pytest.mark.parametrize("kind", ["folder", pytest.param("file", marks=pytest.mark.long)])
def test_a_container_is_one_pod_without_a_worker(platform: ClusterPlatform, kind: str) -> None:
    run = platform.succeed(platform.start(f"container-{kind}"))
    assert platform.api.xcom(run, "load")["rows"] == 3
    assert prices(platform, f"pond/container-{kind}") == [10, 20, 30]
    assert platform.api.xcom(run, "transform_1")["uri"].startswith("s3://staging/")
    assert set(platform.api.xcom(run, "transform_1")) == {"uri", "rows", "bytes", "schema_hash"}
    assert platform.pods.workers(run.dag_id, run.run_id, "transform_1") == []
    (pod,) = own_pods(platform, run)
    platform.pods.wait_until_deleted([pod])
    assert pod.labels["team"] == "shops"
    assert "worked on 3 rows" in platform.api.log(run, "transform_1")
    assert not [name for name in platform.services.objects("staging") if run.dag_id in name]


def test_no_credentials_stand_in_the_pod(platform: ClusterPlatform) -> None:
    pods = [pod for pod in platform.pods.others() if "container-" in pod.name]
    assert pods
    assert platform.services.s3_password not in json.dumps([pod.events for pod in pods])
    for pod in pods:
        (transform,) = (found for found in pod.last["spec"]["initContainers"] if found["name"] == "transform")
        assert not transform.get("envFrom")
        assert not pod.last["spec"].get("automountServiceAccountToken")


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("csv", "is no Parquet file"),
        ("nothing", "wrote nothing to $OUTPUT"),
        ("absent", "absent:1"),
    ],
)
def test_a_mistake_is_told_and_not_tried_again(platform: ClusterPlatform, kind: str, reason: str) -> None:
    run = platform.finish(platform.start(f"container-{kind}"))
    assert run.state == "failed"
    assert platform.tries(run, "transform_1") == 1
    platform.wait_until(f"the log says {reason}", lambda: reason in platform.api.log(run, "transform_1"), 60)


@pytest.mark.long
def test_a_failure_of_the_container_is_tried_again(platform: ClusterPlatform) -> None:
    run = platform.finish(platform.start("container-fails"))
    assert (run.state, platform.tries(run, "transform_1")) == ("failed", 2)
    assert "the model is missing" in platform.api.log(run, "transform_1", 2)
    assert len(own_pods(platform, run)) == 2


@pytest.mark.long
def test_a_pod_that_is_deleted_costs_a_try_and_the_data_is_loaded_once(platform: ClusterPlatform) -> None:
    run = platform.start("container-slow")
    platform.kubectl("delete", "pod", wait_for_work(platform, run), "--force", "--grace-period=0")
    platform.succeed(run)
    assert platform.tries(run, "transform_1") == 2
    assert platform.api.xcom(run, "load")["rows"] == 3


@pytest.mark.long
def test_another_triggerer_goes_on_with_the_same_pod(platform: ClusterPlatform) -> None:
    run = platform.start("container-slow")
    wait_for_work(platform, run)
    platform.airflow.kill_part("triggerer")
    platform.airflow.start_part("triggerer")
    platform.succeed(run)
    assert len(own_pods(platform, run)) == 1
    assert platform.tries(run, "transform_1") == 1
    assert platform.pods.workers(run.dag_id, run.run_id, "transform_1") == []


@pytest.mark.long
def test_a_cleared_run_works_on_the_new_data(platform: ClusterPlatform, tmp_path: Path) -> None:
    run = platform.start("container-slow")
    wait_for_work(platform, run)
    more = tmp_path / "b.csv"
    more.write_text("id,shop,price\n4,b,4\n")
    platform.services.upload(more, "pond/raw/shops/b.csv")
    body = {"dry_run": False, "dag_run_id": run.run_id, "only_failed": False, "only_running": False}
    platform.api.post(f"/dags/{run.dag_id}/clearTaskInstances", body)
    platform.succeed(run)
    assert platform.api.xcom(run, "load")["rows"] == 4
    # Airflow 3.3.2 ends the trigger of a cleared task only when the task is deferred anew, and may start it once more
    # before: there can be a pod too many, but the last one is that of the new try.
    pods = own_pods(platform, run)
    platform.pods.wait_until_deleted(pods)
    assert pods[0].annotations["mlplatform.airflow/work"] != pods[-1].annotations["mlplatform.airflow/work"]
