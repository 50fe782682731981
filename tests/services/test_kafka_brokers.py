"""Brokers that want TLS and a login, brokers that die while they are read, and a client that is not installed."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlplatform.exceptions import ConfigurationError, ServiceRefused, ServiceUnavailable
from airflow_mlplatform.steps.kafka import config, reader, topic
from airflow_mlplatform.steps.kafka.ranges import Reach
from airflow_mlplatform.steps.login import Login
from tests.services.certificates import STORE_PASSWORD, Authority
from tests.services.etl_parts import Site, site
from tests.services.kafka_broker import KafkaBroker
from tests.services.kafka_parts import Clicks
from tests.services.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["site"]

ID = {"columns": {"id": "BIGINT"}}
SECRET = "s3cret-and-more"
PLAIN = (
    'org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="admin" '
    f'user_admin="admin" user_reader="{SECRET}";'
)


@dataclass(frozen=True)
class Guarded:
    """A broker that lets readers in by TLS and a login only.

    :param broker: with a plain listener for the tests themselves.
    :param port: of the guarded one.
    :param authority: signed its certificate.
    """

    broker: KafkaBroker
    port: int
    authority: Authority

    def login(self, *, user: str = "reader", password: str = SECRET, **extra: str) -> Login:
        ours = {
            "bootstrap.servers": f"127.0.0.1:{self.port}",
            "security.protocol": "SASL_SSL",
            "sasl.mechanisms": "PLAIN",
            "ssl.ca.location": str(self.authority.certificate),
        }
        named = {key.replace("_", "."): value for key, value in extra.items()}
        return Login("events", "kafka", user=user, password=password, extra={**ours, **named})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder / "certificates")
    plain, port, controller = free_port(), free_port(), free_port()
    listeners = f"PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{port}"
    settings = {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": listeners,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": PLAIN,
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": str(authority.sign("broker").store),
        "ssl.keystore.password": STORE_PASSWORD,
        "ssl.key.password": STORE_PASSWORD,
    }
    with KafkaBroker(folder / "kafka", port=plain, settings=settings) as broker:
        yield Guarded(broker, port, authority)


def numbers(start: int, stop: int, size: int = 0) -> list[dict[str, Any]]:
    return [{"id": number, "text": "x" * size} for number in range(start, stop)]


def test_tls_and_a_login(guarded: Guarded, site: Site) -> None:
    site.logins["events"] = guarded.login()
    clicks = Clicks(guarded.broker, site)
    clicks.create()
    clicks.send(numbers(0, 10))
    assert clicks.load("r1", **ID).rows == 10
    assert clicks.loaded() == (10, 10)


@pytest.mark.parametrize(
    ("extra", "error", "words"),
    [
        ({"password": "wrong-and-secret"}, ServiceRefused, r"SASL authentication error.*sasl\.\* and ssl\.\*"),
        ({"ssl_ca_location": ""}, ServiceRefused, r"certificate.*check security.protocol, sasl\.\* and ssl\.\*"),
        ({"sasl_mechanisms": "SCRAM-SHA-256"}, ServiceRefused, r"mechanism.*check security.protocol, sasl\.\*"),
        ({"security_protocol": "SASL_PLAINTEXT"}, ServiceUnavailable, "retry may help; if not.*security.protocol"),
        ({"security_protocol": "SSL"}, ServiceUnavailable, "retry may help; if not.*security.protocol"),
    ],
    ids=["password", "authority", "mechanism", "no TLS", "no login"],
)
def test_logins_that_brokers_refuse(
    guarded: Guarded,
    site: Site,
    extra: dict[str, str],
    error: type[Exception],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topic, "TIMEOUT", 5.0)
    clicks = Clicks(guarded.broker, site)
    clicks.create(1)
    site.logins["events"] = guarded.login(**extra)
    with pytest.raises(error, match=words) as refused:
        clicks.load("r1", **ID)
    assert SECRET not in str(refused.value)
    assert "wrong-and-secret" not in str(refused.value)


def test_a_broker_that_dies_while_it_is_read_and_comes_back(own_kafka: KafkaBroker, site: Site) -> None:
    clicks = Clicks(own_kafka, site)
    clicks.create(3)
    # Several times what the client fetches ahead.
    clicks.send(numbers(0, 30_000, 1_000))
    place = topic.Topic(clicks.topic, site.logins["events"])
    bounds = place.bounds()
    batches = reader.read_records(place, Reach(bounds.topic_id, bounds.spans))
    read = [next(batches)]
    own_kafka.kill()
    own_kafka.start()
    read.extend(batches)
    seen = [one for batch in read for one in zip(batch.partitions, batch.offsets, strict=True)]
    assert len(seen) == 30_000
    assert sorted(seen) == [(partition, offset) for partition in range(3) for offset in range(10_000)]


def test_a_broker_that_dies_while_it_is_read_and_stays_away(
    own_kafka: KafkaBroker, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    clicks = Clicks(own_kafka, site)
    clicks.create(3)
    clicks.send(numbers(0, 30_000, 1_000))
    records_of, calls = reader.Records.of, 0

    def dying(messages: list[Any]) -> Any:
        nonlocal calls
        calls += 1
        if calls == 10:
            own_kafka.kill()
        return records_of(messages)

    with monkeypatch.context() as patched:
        patched.setattr(reader, "PATIENCE", 3.0)
        patched.setattr(reader.Records, "of", dying)
        with pytest.raises(ServiceUnavailable, match=rf"topic {clicks.topic} .*a retry may help"):
            clicks.load("r1", **ID)
    own_kafka.start()
    clicks.send(numbers(30_000, 30_010))
    assert clicks.load("r1", **ID).rows == 30_000, "what the first try was to read"
    assert clicks.load("r2", **ID).rows == 10
    assert clicks.rows("select count(*), count(distinct id), max(id) from input") == [(30_010, 30_010, 30_009)]


@pytest.mark.parametrize("module", ["confluent_kafka", "fastavro"])
def test_a_client_that_is_not_installed(site: Site, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(config, "find_spec", lambda name: None if name == module else find(name))
    more = {"format": "avro", "schema_registry": {"connection": "schemas"}}
    source = {"kafka": {"connection": "events", "topic": "clicks", **more}}
    package = module.replace("_", "-")
    with pytest.raises(ConfigurationError, match=rf"{package} is not installed.*airflow-mlplatform\[etl,kafka\]"):
        site.run(source, "pond://clicks/r1")
