"""Connectors as resources of Strimzi: the real resource definition and API server, a stand-in for the operator."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlplatform import KafkaConnectorOperator, StrimziCluster
from airflow_mlplatform.exceptions import ConnectorFailed
from tests.cluster.kubectl import Kubectl
from tests.cluster.strimzi_stand_in import BROKEN, NO_CLASS, StrimziStandIn, strimzi_stand_in
from tests.parts import require
from tests.services.connector_tasks import Task, connection, run_all
from tests.waiting import wait_for

SOURCE = "org.apache.kafka.connect.file.FileStreamSourceConnector"
CONFIG = {"connector.class": SOURCE, "file": "/data/in", "topic": "t", "tasks.max": 1}
GET_STRIMZI = "a Kubernetes cluster with Strimzi's CRDs: set KUBECONFIG, have kubectl on PATH, apply strimzi-crds"


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    require(shutil.which("kubectl") and os.environ.get("KUBECONFIG"), GET_STRIMZI)
    cluster = Kubectl()
    require(cluster("get", "crd", "kafkaconnectors.kafka.strimzi.io", "-o", "name", check=False), GET_STRIMZI)
    name = f"strimzi-{uuid4().hex[:6]}"
    cluster("create", "namespace", name)
    yield name
    cluster("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def strimzi(namespace: str) -> Iterator[StrimziStandIn]:
    with strimzi_stand_in(namespace) as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def cluster_connection(namespace: str) -> Iterator[None]:
    extra = {"kube_config_path": os.environ["KUBECONFIG"]}
    with connection("the_cluster", conn_type="kubernetes", extra=extra):
        yield


@pytest.fixture
def kubectl(namespace: str) -> Kubectl:
    return Kubectl(namespace)


@pytest.fixture
def name() -> str:
    return f"c-{uuid4().hex[:6]}"


@pytest.fixture
def operator(namespace: str, name: str, strimzi: StrimziStandIn) -> Any:
    def make(config: dict[str, Any] | None = None, name: str = name, **arguments: Any) -> KafkaConnectorOperator:
        cluster = StrimziCluster(namespace, "my-connect", "the_cluster")
        return KafkaConnectorOperator(
            task_id="a_task", name=name, config=config, strimzi=cluster, **{"settle": 1.0, "restarts": 0} | arguments
        )

    return make


def spec(kubectl: Kubectl, name: str) -> dict[str, Any]:
    return dict(kubectl.get("kafkaconnector", name)["spec"])


def test_a_life_of_a_connector(operator: Any, kubectl: Kubectl, name: str, strimzi: StrimziStandIn) -> None:
    result = Task().run(operator(CONFIG))
    assert (result["done"], result["state"], result["tasks"]) == ("created", "RUNNING", ["RUNNING"])
    assert spec(kubectl, name) == {
        "class": SOURCE,
        "tasksMax": 1,
        "state": "running",
        "config": {"file": "/data/in", "topic": "t"},
    }
    before = kubectl.get("kafkaconnector", name)["metadata"]["resourceVersion"]
    assert Task().run(operator(CONFIG))["done"] == "nothing"
    assert kubectl.get("kafkaconnector", name)["metadata"]["resourceVersion"] == before

    assert Task().run(operator(CONFIG | {"batch.size": 10}))["changed"] == {"batch.size": {"from": None, "to": "10"}}
    assert Task().run(operator(state="paused"))["tasks"] == ["PAUSED"]
    assert Task().run(operator(CONFIG, state="paused"))["changed"] == {"batch.size": {"from": "10", "to": None}}
    assert "batch.size" not in strimzi.connect[name].config
    assert Task().run(operator(state="stopped"))["tasks"] == []
    assert Task().run(operator())["state"] == "RUNNING"
    assert Task().run(operator(state="absent"))["done"] == "removed"
    wait_for(lambda: name not in strimzi.connect)


def test_a_refused_update_is_told_and_undone(operator: Any, kubectl: Kubectl, name: str) -> None:
    Task().run(operator(CONFIG))
    with pytest.raises(ConnectorFailed, match=r"(?s)batch.size: Not a number.*former config has been put back"):
        Task().run(operator(CONFIG | {"batch.size": "many"}))
    assert spec(kubectl, name)["config"] == {"file": "/data/in", "topic": "t"}


def test_a_class_that_is_missing(operator: Any, kubectl: Kubectl, name: str) -> None:
    with pytest.raises(ConnectorFailed, match=r"(?s)Failed to find any class.*has been removed"):
        Task().run(operator(CONFIG | {"connector.class": NO_CLASS}))
    assert kubectl("get", "kafkaconnector", name, check=False) == ""


def test_a_task_that_fails_later_is_noticed(operator: Any, strimzi: StrimziStandIn, name: str) -> None:
    """Strimzi goes on saying Ready; only a touch brings the truth."""
    with pytest.raises(ConnectorFailed, match=r"(?s)the task broke.*Task.poll"):
        Task().run(operator(CONFIG | {BROKEN: "0.9"}, settle=1.5, restarts=0))
    assert name not in strimzi.connect or wait_for(lambda: name not in strimzi.connect)


def test_failed_tasks_are_restarted(operator: Any, strimzi: StrimziStandIn, name: str) -> None:
    with pytest.raises(ConnectorFailed, match="after 1 restarts"):
        Task().run(operator(CONFIG | {BROKEN: "0.5"}, restarts=1))


def test_one_whose_reconciliation_is_paused(operator: Any, kubectl: Kubectl, name: str) -> None:
    Task().run(operator(CONFIG))
    kubectl("annotate", "kafkaconnector", name, "strimzi.io/pause-reconciliation=true")
    with pytest.raises(ConnectorFailed, match="remove its annotation strimzi.io/pause-reconciliation"):
        Task().run(operator(CONFIG | {"batch.size": 5}))


def test_keys_that_others_own_go_too(operator: Any, kubectl: Kubectl, name: str) -> None:
    labels = {"strimzi.io/cluster": "my-connect"}
    head = {"apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaConnector", "metadata": {"name": name, "labels": labels}}
    config = {"file": "/data/in", "topic": "t", "batch.size": 7}
    kubectl.apply({**head, "spec": {"class": SOURCE, "tasksMax": 1, "config": config}})
    result = Task().run(operator(CONFIG))
    assert result["changed"] == {"batch.size": {"from": "7", "to": None}}
    assert "batch.size" not in spec(kubectl, name)["config"]


def test_many_at_once(operator: Any, name: str) -> None:
    results = run_all([operator(CONFIG, name=f"{name}-{number}") for number in range(12)])
    assert [result["tasks"] for result in results] == [["RUNNING"]] * 12


def test_what_cannot_be_a_resource(operator: Any) -> None:
    with pytest.raises(AirflowFailException, match=r"tasks\.max is 'many'"):
        Task().run(operator(CONFIG | {"tasks.max": "many"}))
    with pytest.raises(AirflowFailException, match="rename it"):
        Task().run(operator(CONFIG, name="Upper_Case"))
    with pytest.raises(AirflowFailException, match="does not tell offsets"):
        Task().run(operator(CONFIG, wait_until="caught_up"))
