"""Connectors as resources of Strimzi: the real resource definition and API server, a stand-in for the operator."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout

from airflow_mlplatform import (
    KafkaConnectorOffsetsOperator,
    KafkaConnectorOperator,
    KafkaConnectorRestartOperator,
    KafkaConnectorSensor,
    StrimziCluster,
)
from airflow_mlplatform.clients import strimzi_requests
from airflow_mlplatform.exceptions import ConfigurationError, ConnectorFailed, ServiceUnavailable
from tests.cluster.kubectl import Kubectl
from tests.cluster.strimzi_stand_in import BROKEN, NO_CLASS, SNAPSHOT, WEATHER, StrimziStandIn, strimzi_stand_in
from tests.parts import require
from tests.services.airflow_home import AirflowHome, airflow_home, migrated_database
from tests.services.connector_tasks import Task, connection, run_all
from tests.waiting import wait_for

__all__ = ["airflow_home", "migrated_database"]

SOURCE = "org.apache.kafka.connect.file.FileStreamSourceConnector"
DEBEZIUM = "io.debezium.connector.postgresql.PostgresConnector"
CONFIG = {"connector.class": SOURCE, "file": "/data/in", "topic": "t", "tasks.max": 1}
DAGS = """
from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_mlplatform import (
    KafkaConnectorOffsetsOperator, KafkaConnectorOperator, KafkaConnectorRestartOperator, KafkaConnectorSensor,
    StrimziCluster,
)

again = {{"retries": 2, "retry_delay": timedelta(seconds=1)}}
with DAG("strimzi", schedule=None, params={{"batch": "10"}}, default_args=again):
    place = {{"name": "in-airflow", "strimzi": StrimziCluster("{namespace}", "my-connect", "the_cluster")}}
    config = {config} | {{"batch.size": "{{{{ params.batch }}}}"}}
    up = KafkaConnectorOperator(task_id="up", config=config, settle=1, **place)
    restart = KafkaConnectorRestartOperator(task_id="restart", settle=1, **place)
    healthy = KafkaConnectorSensor(task_id="healthy", timeout=120, **place)
    up >> restart >> healthy >> KafkaConnectorOffsetsOperator(task_id="offsets", **place)
"""
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
        stand_in.make_cluster("my-connect", SOURCE, DEBEZIUM)
        stand_in.make_cluster("by-rest", SOURCE, uses_resources=False)
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
def cluster(namespace: str) -> StrimziCluster:
    return StrimziCluster(namespace, "my-connect", "the_cluster")


@pytest.fixture
def operator(cluster: StrimziCluster, name: str, strimzi: StrimziStandIn) -> Any:
    def make(
        config: dict[str, Any] | None = None, name: str = name, cluster: StrimziCluster = cluster, **arguments: Any
    ) -> KafkaConnectorOperator:
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
    with pytest.raises(AirflowFailException, match=r"(?s)batch.size: Not a number.*former config has been put back"):
        Task().run(operator(CONFIG | {"batch.size": "many"}))
    assert spec(kubectl, name)["config"] == {"file": "/data/in", "topic": "t"}


def test_a_class_that_is_missing(operator: Any, kubectl: Kubectl, name: str) -> None:
    with pytest.raises(AirflowFailException, match=rf"no plugin '{NO_CLASS}'.*Postgres.* 4.3.1, org.apache"):
        Task().run(operator(CONFIG | {"connector.class": NO_CLASS}))
    assert kubectl("get", "kafkaconnector", name, check=False) == ""


def test_clusters_that_cannot_be(operator: Any, namespace: str) -> None:
    with pytest.raises(AirflowFailException, match=r"there is no KafkaConnect .*/ghost"):
        Task().run(operator(CONFIG, cluster=StrimziCluster(namespace, "ghost", "the_cluster")))
    with pytest.raises(AirflowFailException, match="annotate it strimzi.io/use-connector-resources"):
        Task().run(operator(CONFIG, cluster=StrimziCluster(namespace, "by-rest", "the_cluster")))


def test_a_database_that_is_away_is_no_mistake(operator: Any) -> None:
    with pytest.raises(ConnectorFailed, match=r"(?s)Connection to .* refused.*has been removed"):
        Task().run(operator(CONFIG | {"database": WEATHER}))


@pytest.mark.long
def test_a_task_that_fails_later_is_noticed(operator: Any, strimzi: StrimziStandIn, name: str) -> None:
    """Strimzi goes on saying Ready; only a touch brings the truth."""
    with pytest.raises(ConnectorFailed, match=r"(?s)the task broke.*Task.poll"):
        Task().run(operator(CONFIG | {BROKEN: "0.9"}, settle=1.5, restarts=0))
    assert name not in strimzi.connect or wait_for(lambda: name not in strimzi.connect)


@pytest.mark.long
def test_failed_tasks_are_restarted(operator: Any, strimzi: StrimziStandIn, name: str) -> None:
    Task().run(operator(CONFIG))
    with pytest.raises(ConnectorFailed, match="after 1 restarts"):
        Task().run(operator(CONFIG | {BROKEN: "0.5"}, restarts=1))
    # The second one is that of the former config, which was put back.
    wait_for(lambda: strimzi.connect[name].restarts == 2)


@pytest.mark.long
def test_one_whose_reconciliation_is_paused(operator: Any, kubectl: Kubectl, name: str) -> None:
    Task().run(operator(CONFIG))
    kubectl("annotate", "kafkaconnector", name, "strimzi.io/pause-reconciliation=true")
    with pytest.raises(AirflowFailException, match="remove its annotation strimzi.io/pause-reconciliation"):
        Task().run(operator(CONFIG | {"batch.size": 5}))


def test_keys_that_others_own_go_too(operator: Any, kubectl: Kubectl, name: str) -> None:
    labels = {"strimzi.io/cluster": "my-connect"}
    head = {"apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaConnector", "metadata": {"name": name, "labels": labels}}
    config = {"file": "/data/in", "topic": "t", "batch.size": 7}
    kubectl.apply({**head, "spec": {"class": SOURCE, "tasksMax": 1, "config": config}})
    result = Task().run(operator(CONFIG))
    assert result["changed"] == {"batch.size": {"from": "7", "to": None}}
    assert "batch.size" not in spec(kubectl, name)["config"]


@pytest.mark.long
def test_many_at_once(operator: Any, name: str) -> None:
    results = run_all([operator(CONFIG, name=f"{name}-{number}") for number in range(12)])
    assert [result["tasks"] for result in results] == [["RUNNING"]] * 12


def test_what_cannot_be_a_resource(operator: Any) -> None:
    with pytest.raises(AirflowFailException, match=r"tasks\.max is 'many'"):
        Task().run(operator(CONFIG | {"tasks.max": "many"}))
    with pytest.raises(AirflowFailException, match="rename it"):
        Task().run(operator(CONFIG, name="Upper_Case"))


def test_a_restart(operator: Any, cluster: StrimziCluster, strimzi: StrimziStandIn, name: str) -> None:
    Task().run(operator(CONFIG))
    again = KafkaConnectorRestartOperator(task_id="again", name=name, settle=0.5, strimzi=cluster)
    assert Task().run(again)["tasks"] == ["RUNNING"]
    assert strimzi.connect[name].restarts == 1
    mend = KafkaConnectorRestartOperator(task_id="mend", name=name, settle=0.5, only_failed=True, strimzi=cluster)
    strimzi.connect[name].broken = True
    assert Task().run(mend)["tasks"] == ["RUNNING"]
    assert strimzi.connect[name].restarts == 2
    strimzi.asleep.set()
    late = KafkaConnectorRestartOperator(task_id="late", name=name, timeout=3, strimzi=cluster)
    with pytest.raises(ConnectorFailed, match="connector RESTARTING"):
        Task().run(late)
    strimzi.asleep.clear()
    with pytest.raises(AirflowFailException, match="no connector 'ghost'"):
        Task().run(KafkaConnectorRestartOperator(task_id="again", name="ghost", strimzi=cluster))


def offset(line: int, file: str = "/data/in") -> dict[str, Any]:
    return {"partition": {"filename": file}, "offset": {"position": line}}


def test_offsets(operator: Any, cluster: StrimziCluster, strimzi: StrimziStandIn, kubectl: Kubectl, name: str) -> None:
    def offsets(wished: Any = None) -> Any:
        return Task().run(KafkaConnectorOffsetsOperator(task_id="offsets", name=name, offsets=wished, strimzi=cluster))

    Task().run(operator(CONFIG))
    strimzi.offsets[name] = [offset(10)]
    assert offsets() == [offset(10)]
    with pytest.raises(AirflowFailException, match='state="stopped"'):
        offsets("reset")
    Task().run(operator(state="stopped"))
    assert offsets([offset(2)]) == [offset(2)]
    assert offsets([offset(5, "/data/other")]) == [offset(2), offset(5, "/data/other")]
    assert offsets([{**offset(2), "offset": None}]) == [offset(5, "/data/other")]
    assert offsets("reset") == []
    assert Task().run(operator(CONFIG))["done"] == "updated"
    assert Task().run(operator(CONFIG))["done"] == "nothing"
    Task().run(operator(state="absent"))
    wait_for(lambda: not [one for one in kubectl.get("configmaps") if one["metadata"]["name"].startswith(name)])


def test_what_strimzi_cannot_do_now_is_not_done_later(
    operator: Any, cluster: StrimziCluster, strimzi: StrimziStandIn, kubectl: Kubectl, name: str, monkeypatch: Any
) -> None:
    Task().run(operator(CONFIG, state="stopped"))
    strimzi.offsets[name] = [offset(10)]
    reset = KafkaConnectorOffsetsOperator(task_id="offsets", name=name, offsets="reset", strimzi=cluster)
    monkeypatch.setattr(strimzi_requests, "PATIENCE", 1.0)
    strimzi.asleep.set()
    with pytest.raises(ServiceUnavailable, match="see that its operator runs"):
        Task().run(reset)
    strimzi.asleep.clear()
    kubectl("annotate", "kafkaconnector", name, "strimzi.io/pause-reconciliation=true")
    with pytest.raises(AirflowFailException, match="does not do what"):
        Task().run(KafkaConnectorOffsetsOperator(task_id="offsets", name=name, strimzi=cluster))
    kubectl("annotate", "kafkaconnector", name, "strimzi.io/pause-reconciliation-")
    wait_for(lambda: kubectl.get("kafkaconnector", name)["status"].get("connectorStatus"))
    # It still says stopped, but has been resumed; Strimzi knows better.
    monkeypatch.setattr(strimzi_requests, "PATIENCE", 30.0)
    strimzi.connect[name].state = "running"
    monkeypatch.setattr(StrimziStandIn, "_apply", lambda *_: None)
    with pytest.raises(AirflowFailException, match=r"(?s)Connector is not in STOPPED state"):
        Task().run(reset)
    assert "strimzi.io/connector-offsets" not in kubectl.get("kafkaconnector", name)["metadata"]["annotations"]
    assert strimzi.offsets[name] == [offset(10)]


@pytest.mark.long
def test_a_snapshot_is_waited_for(operator: Any, strimzi: StrimziStandIn, name: str) -> None:
    config = {"connector.class": DEBEZIUM, SNAPSHOT: "4", "tasks.max": 1}
    assert Task().run(operator(config, wait_until="caught_up"))["state"] == "RUNNING"
    assert time.monotonic() - strimzi.connect[name].since >= 4
    with pytest.raises(ConnectorFailed, match="its snapshot goes on"):
        Task().run(operator(config | {SNAPSHOT: "600"}, wait_until="caught_up", timeout=12))


def test_the_sensor(operator: Any, cluster: StrimziCluster, strimzi: StrimziStandIn, name: str) -> None:
    """Strimzi itself goes on telling of a failed task until it looks again."""
    Task().run(operator(CONFIG))
    strimzi.connect[name].broken = True
    sensor = KafkaConnectorSensor(task_id="healthy", name=name, timeout=4, strimzi=cluster)
    with pytest.raises(AirflowSensorTimeout, match="the task broke"):
        Task().run(sensor)
    strimzi.connect[name].restart(time.monotonic())
    assert Task().run(sensor)["tasks"] == ["RUNNING"]
    with pytest.raises(ConfigurationError, match="drop deferrable=False"):
        KafkaConnectorSensor(task_id="healthy", name=name, deferrable=False, strimzi=cluster)


@pytest.mark.long
def test_in_airflow(airflow_home: AirflowHome, namespace: str, strimzi: StrimziStandIn) -> None:
    """The waits are in a real triggerer; a config that is refused is not tried again."""
    cluster = {"conn_type": "kubernetes", "extra": {"kube_config_path": os.environ["KUBECONFIG"]}}
    airflow_home.variables["AIRFLOW_CONN_THE_CLUSTER"] = json.dumps(cluster)
    (airflow_home.dags / "strimzi.py").write_text(DAGS.format(namespace=namespace, config=CONFIG))
    strimzi.offsets["in-airflow"] = [offset(10)]
    airflow_home.start()
    airflow_home.wait_for_dag("strimzi")
    run = airflow_home.trigger("strimzi")
    assert airflow_home.wait_for_run("strimzi", run, 240) == "success", airflow_home.task_log("strimzi", run, "up")
    assert airflow_home.xcom("strimzi", run, "up")["tasks"] == ["RUNNING"]
    assert airflow_home.xcom("strimzi", run, "offsets") == [offset(10)]
    assert strimzi.connect["in-airflow"].restarts == 1

    run = airflow_home.trigger("strimzi", {"batch": "many"})
    assert airflow_home.wait_for_run("strimzi", run, 240) == "failed"
    assert airflow_home.tasks("strimzi", run)["up"]["try_number"] == 1
    log = airflow_home.task_log("strimzi", run, "up")
    assert "batch.size: Not a number" in log
    assert "former config has been put back" in log
    assert strimzi.connect["in-airflow"].config["batch.size"] == "10"
