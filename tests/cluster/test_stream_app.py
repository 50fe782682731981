"""Streaming apps by themselves, without an Airflow: code from a private repository, and another stream library."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import yaml

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.hooks.kubernetes import pod_setup
from airflow_mlplatform.settings import settings
from airflow_mlplatform.training.provenance import Provenance
from airflow_mlplatform.triggers import stream_app
from airflow_mlplatform.triggers.stream_app import StreamAppPlan, StreamAppTrigger
from tests.cluster.images import AIRFLOW, FAUST, STREAMING
from tests.cluster.kubectl import Kubectl
from tests.services.clicks_parts import change, order
from tests.services.connector_tasks import connection
from tests.services.git_servers import HttpsServer, Repository, certificate
from tests.services.kafka_broker import KafkaBroker
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.cluster.images import Images

COUNTS = Path(__file__).parents[2] / "dag_specs" / "counts"
TOKEN = "glpat-5ecret_T0ken"
MAIN = """\
import pathlib, signal, sys
print("files:", *sorted(str(path) for path in pathlib.Path().rglob("*")), flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
signal.pause()
"""
BAD = "print('there is no model', flush=True); raise SystemExit(78)"


@dataclass
class Apps:
    """Rolls out apps in a namespace as the triggerer does."""

    kubectl: Kubectl
    images: Images
    git: HttpsServer

    def bring(self, name: str, app: dict[str, Any], state: str = "running", run: str = "") -> dict[str, Any]:
        """Bring an app into a state and return what its task would leave in XCom.

        :param run: the DAG run; another one each time if left out.
        """
        plan = StreamAppPlan.model_validate({"name": name, "state": state})
        origin = Provenance("apps", run or f"run-{uuid4().hex[:6]}", "app", -1, 1, "")
        return dict(asyncio.run(StreamAppTrigger(app, plan.model_dump(mode="json")).work(origin)))

    def code(self, name: str, files: dict[str, str], key: str = "token") -> dict[str, Any]:
        """Put code into a new private repository and return what an app calls it."""
        Repository.create(self.git.root, name).write({f"app/{path}": text for path, text in files.items()})
        return {"url": f"{self.git.url}/{name}.git#app", "ref": "main", "secret": {"secret": "git", "key": key}}


@pytest.fixture(scope="module")
def git(node_ip: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpsServer]:
    """A git server that wants a token and whose certificate nobody knows."""
    folder = tmp_path_factory.mktemp("git")
    server = HttpsServer(folder / "served", certificate(folder, node_ip), TOKEN, host=node_ip).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def apps(git: HttpsServer, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apps]:
    """A namespace with the token in a Secret, and a pod template that knows the git server's certificate."""
    kubectl = Kubectl(f"apps-{uuid4().hex[:6]}")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": kubectl.namespace, "labels": labels}}
    kubectl.apply(namespace)
    secrets = {"token": TOKEN, "username": "deploy-7", "wrong": "wrong"}
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"}, "stringData": secrets})
    known = git.certificate.read_text().partition("-----BEGIN PRIVATE KEY-----")[0]
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "certificates"}, "data": {"git.crt": known}}
    kubectl.apply(made)
    template = tmp_path_factory.mktemp("template") / "pod.yaml"
    template.write_text(yaml.safe_dump(TEMPLATE))
    configuration = {
        "AIRFLOW__MLPLATFORM__NAMESPACE": kubectl.namespace,
        "AIRFLOW__MLPLATFORM__PLATFORM_IMAGE": images(AIRFLOW),
        "AIRFLOW__MLPLATFORM__KUBERNETES_CONN_ID": "the_cluster",
        "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE": str(template),
    }

    async def leave(*_: object, **__: object) -> None:
        """Take the place of Airflow's XCom, which needs a task in an Airflow."""

    extra = {"kube_config_path": os.environ["KUBECONFIG"]}
    with pytest.MonkeyPatch.context() as patch, connection("the_cluster", conn_type="kubernetes", extra=extra):
        for name, value in configuration.items():
            patch.setenv(name, value)
        patch.setattr(stream_app, "leave", leave)
        _forget()
        yield Apps(kubectl, images, git)
    _forget()
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


def _forget() -> None:
    """Let the configuration be read again."""
    settings.cache_clear()
    pod_setup.cache_clear()


TEMPLATE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "spec": {
        "containers": [
            {
                "name": "base",
                "env": [{"name": "GIT_SSL_CAINFO", "value": "/certificates/git.crt"}],
                "volumeMounts": [{"name": "certificates", "mountPath": "/certificates"}],
            }
        ],
        "volumes": [{"name": "certificates", "configMap": {"name": "certificates"}}],
    },
}


def test_code_from_a_private_repository(apps: Apps) -> None:
    app = {
        "image": apps.images(STREAMING),
        "git": apps.code("private", {"main.py": MAIN}),
        "entrypoint": ["python", "main.py"],
        "rollout": {"settle": "1s", "timeout": "3m"},
    }
    done = apps.bring("private", app)
    assert (done["done"], len(done["commit"])) == ("created", 40)
    assert ("deploy-7", TOKEN) in apps.git.login
    # The node is this machine: whatever runs in its pods was among these, git's own children too.
    assert any("git" in line for line in apps.git.seen)
    assert not any(TOKEN in line for line in apps.git.seen)
    (pod,) = apps.kubectl.pods("app.kubernetes.io/name=private")
    log = apps.kubectl("logs", pod["metadata"]["name"], "--all-containers")
    assert "files: main.py\n" in log
    kept = apps.kubectl("get", "deployments,replicasets,pods,events", "-o", "yaml")
    assert TOKEN not in log + kept
    apps.bring("private", app, "absent")


def test_a_wrong_token_is_a_mistake(apps: Apps) -> None:
    app = {"image": apps.images(STREAMING), "git": apps.code("locked", {"main.py": MAIN}, key="wrong")}
    with pytest.raises(ConfigurationError, match="Authentication failed"):
        apps.bring("locked", app)
    assert apps.kubectl.get("deployments") == []


def test_a_bad_first_version_is_tried_once(apps: Apps) -> None:
    """Also if the triggerer dies after it was taken back and before anybody was told."""
    app = {"image": apps.images(STREAMING), "entrypoint": ["python", "-c", BAD]}
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"(?s)there is no model.*its pods are gone"):
            apps.bring("bad", app, run="one")
        (deployment,) = apps.kubectl.get("deployments")
        assert (deployment["spec"]["replicas"], deployment["metadata"]["generation"]) == (0, 2)
    good = {**app, "entrypoint": ["sleep", "900"], "grace": "1s", "rollout": {"settle": "1s", "timeout": "3m"}}
    assert apps.bring("bad", good)["done"] == "created"
    assert apps.bring("bad", good, "absent")["done"] == "removed"


@pytest.mark.long
def test_faust(apps: Apps, node_ip: str, tmp_path: Path) -> None:
    """The spec of dag_specs/counts as it is, but for addresses."""
    spec = yaml.safe_load((COUNTS / "streaming.yaml").read_text("utf-8"))
    with KafkaBroker(tmp_path / "kafka", host=node_ip) as broker:
        from airflow_mlplatform.clients.kafka_admin import KafkaAdmin

        admin = KafkaAdmin({"bootstrap.servers": broker.bootstrap})
        for topic in ("shop.public.orders", "counts.orders"):
            admin.create(topic, 6, 1, {}, dry_run=False)
        files = {path.name: path.read_text("utf-8") for path in (COUNTS / "app").glob("*.py")}
        app = spec["app"] | {
            "image": apps.images(FAUST),
            "git": apps.code("counts", files),
            "env": spec["app"]["env"] | {"KAFKA_BROKERS": broker.bootstrap},
            "rollout": {"settle": "2s", "timeout": "5m"},
        }
        with connection("kafka_default", conn_type="kafka", extra={"bootstrap.servers": broker.bootstrap}):
            done = apps.bring("counts", app)
            assert (done["done"], done["replicas"]) == ("created", 2)
            send(broker, 90)
            wait_for(lambda: sum(counted(broker).values()) == 90, "until Faust has counted all orders", 90)
            assert apps.bring("counts", app)["done"] == "unchanged"
            apps.bring("counts", app, "absent")


def send(broker: KafkaBroker, count: int) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for number in range(count):
        event = change("c", None, order(number, number % 9))
        producer.produce("shop.public.orders", json.dumps(event), json.dumps({"customer_id": number % 9}))
    assert producer.flush(60) == 0


def counted(broker: KafkaBroker) -> dict[bytes, int]:
    """The last count of each customer."""
    from confluent_kafka import Consumer, TopicPartition

    config = {"bootstrap.servers": broker.bootstrap, "group.id": "looks", "enable.auto.commit": "false"}
    consumer = Consumer({**config, "enable.partition.eof": "true"})
    consumer.assign([TopicPartition("counts.orders", number, 0) for number in range(6)])
    found, ended = {}, 0
    while ended < 6:
        message = consumer.poll(10)
        assert message is not None
        if message.error():
            ended += 1
        else:
            found[message.key()] = json.loads(message.value())["orders"]
    consumer.close()
    return found
