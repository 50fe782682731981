"""How operators reach a Kafka Connect that is locked: TLS, client certificates, logins, ingresses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlplatform import KafkaConnectHook, KafkaConnectorOperator
from tests.services.certificates import STORE_PASSWORD, Authority, Signed
from tests.services.connect_ingress import ConnectIngress
from tests.services.connect_workers import ConnectWorker, ConnectWorkers
from tests.services.connector_tasks import Task, connection
from tests.services.java_parts import FILE_CONNECTORS
from tests.services.kafka_broker import KafkaBroker
from tests.services.ports import free_port

SINK = "org.apache.kafka.connect.file.FileStreamSinkConnector"
USER, PASSWORD, TOKEN, KEY_PASSWORD = "ann", "s3cret-of-ann", "t0ken-of-the-ingress", "k3y-password"
SECRETS = (PASSWORD, TOKEN, KEY_PASSWORD)
JAAS = """KafkaConnect {{
  org.apache.kafka.connect.rest.basic.auth.extension.PropertyFileLoginModule required file="{}";
}};"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Signed:
    """Our certificate, its key sealed."""
    return authority.sign("airflow", KEY_PASSWORD)


@pytest.fixture(scope="module")
def locked(
    kafka: KafkaBroker, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ConnectWorker, str]]:
    """A worker that wants a client certificate and a login, and the address at which it does."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "users").write_text(f"{USER}={PASSWORD}\n")
    (folder / "jaas").write_text(JAAS.format(folder / "users"))
    stores = {"keystore": authority.sign("worker").store, "truststore": authority.truststore}
    tls = {f"listeners.https.ssl.{name}.location": str(path) for name, path in stores.items()}
    tls |= {f"listeners.https.ssl.{name}.password": STORE_PASSWORD for name in stores}
    tls |= {f"listeners.https.ssl.{name}.type": "PKCS12" for name in stores}
    settings = {
        **tls,
        "listeners.https.ssl.key.password": STORE_PASSWORD,
        "listeners.https.ssl.client.auth": "required",
        "rest.extension.classes": "org.apache.kafka.connect.rest.basic.auth.extension.BasicAuthSecurityRestExtension",
        "plugin.path": str(FILE_CONNECTORS.folder.parent),
    }
    environment = {"JAVA_TOOL_OPTIONS": f"-Djava.security.auth.login.config={folder / 'jaas'}"}
    group = ConnectWorkers(folder, kafka.bootstrap, count=1, group="locked", settings=settings, environment=environment)
    (worker,) = group.workers
    worker.login = (USER, PASSWORD)
    address = f"https://127.0.0.1:{free_port()}"
    worker.settings["listeners"] = f"{worker.url},{address}"
    try:
        yield worker.start(), address
    finally:
        worker.kill()


def connect_to(address: str, **content: Any) -> Any:
    """The connection that operators use if none is named."""
    return connection("kafka_connect_default", conn_type="kafka_connect", host=address, **content)


def life(folder: Path) -> Task:
    """Make a connector, wait for it, find it unchanged, remove it."""
    name, task = f"c-{uuid4().hex[:8]}", Task()
    config = {"connector.class": SINK, "topics": "none", "file": str(folder / "out")}

    def run(**arguments: Any) -> Any:
        return task.run(KafkaConnectorOperator(task_id="a_task", name=name, settle=0.5, **arguments))

    assert run(config=config)["tasks"] == ["RUNNING"]
    assert run(config=config)["done"] == "nothing"
    assert run(state="absent")["done"] == "removed"
    assert not [secret for secret in SECRETS if secret in task.everything]
    return task


def test_mutual_tls_and_login(
    locked: tuple[ConnectWorker, str], authority: Authority, ours: Signed, tmp_path: Path
) -> None:
    extra = {"verify": str(authority.certificate), "certificate": str(ours.certificate), "key": str(ours.key)}
    with connect_to(locked[1], login=USER, password=PASSWORD, extra={**extra, "key_password": KEY_PASSWORD}):
        life(tmp_path)
        assert KafkaConnectHook().test_connection()[0]


def test_what_is_wrong_with_certificates_and_logins_is_told_at_once(
    locked: tuple[ConnectWorker, str], authority: Authority, ours: Signed
) -> None:
    ca = {"verify": str(authority.certificate)}
    whole = {**ca, "certificate": str(ours.certificate), "key": str(ours.key), "key_password": KEY_PASSWORD}
    stranger = Authority(authority.folder / "elsewhere").sign("stranger")
    plain = locked[0].url.replace("http:", "https:")
    wrong: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
        (locked[1], {}, {}, "CERTIFICATE_VERIFY_FAILED.*verify"),
        (locked[1], {}, ca, "TLS fails.*(?i:certificate).*certificate or key in the connection"),
        (
            locked[1], {}, {**ca, "certificate": str(stranger.certificate), "key": str(stranger.key)},
            "TLS fails.*certificate or key in the connection",
        ),
        (locked[1], {}, {**whole, "key_password": "wrong-password"}, "cannot be used"),
        (locked[1], {}, whole, "401.*correct login, password"),
        (locked[1], {"login": USER, "password": "wrong-password"}, whole, "401.*correct login, password"),
        (plain, {"login": USER, "password": PASSWORD}, ca, "TLS fails.*correct schema"),
    ]  # fmt: skip
    for address, login, extra, words in wrong:
        with connect_to(address, **login, extra=extra), pytest.raises(AirflowFailException, match=words) as error:
            Task().run(KafkaConnectorOperator(task_id="a_task", name="c", state="paused"))
        assert "wrong-password" not in str(error.value)


def test_behind_an_ingress(connect: ConnectWorkers, authority: Authority, tmp_path: Path) -> None:
    ingress = ConnectIngress(connect.urls[0], "/kafka/connect", TOKEN, authority.sign("ingress"))
    trusted = {"verify": str(authority.certificate), "token": TOKEN}
    host = ingress.url.removesuffix(ingress.prefix)
    with ingress:
        with connect_to(host, extra={**trusted, "path": "/kafka/connect"}):
            task = life(tmp_path)
            assert task.xcoms["kafka_connector_url"].startswith(f"{ingress.url}/connectors/c-")
        with connect_to(ingress.url, extra={"verify": "false", "token": TOKEN}):
            assert KafkaConnectHook().test_connection()[0]
        for extra, words in (
            ({**trusted, "path": "/kafka"}, "no such page; .* with its path behind an ingress"),
            (trusted, "no such page; .* with its path behind an ingress"),
            ({**trusted, "path": "/kafka/connect", "token": "wrong"}, "401; correct login, password, token"),
        ):
            with connect_to(host, extra=extra), pytest.raises(AirflowFailException, match=words):
                Task().run(KafkaConnectorOperator(task_id="a_task", name="c", state="paused"))


def test_the_plain_port_of_a_worker_with_tls(locked: tuple[ConnectWorker, str]) -> None:
    with connect_to(locked[1].replace("https:", "http:")):
        done, why = KafkaConnectHook().test_connection()
    assert not done
    assert httpx.URL(locked[1]).host in why
