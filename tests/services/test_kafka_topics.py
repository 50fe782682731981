"""Topics against a real broker: made, compared, grown, configured, refused, deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlplatform.clients.kafka_admin import KafkaAdmin, KafkaRefused
from airflow_mlplatform.exceptions import ConfigurationError, ServiceRefused, ServiceUnavailable
from airflow_mlplatform.operators.kafka_topics import KafkaTopicsOperator
from airflow_mlplatform.specs.streaming import Topic
from airflow_mlplatform.steps.topics import apply_topics, remove_topics

if TYPE_CHECKING:
    from tests.services.kafka_broker import KafkaBroker


@pytest.fixture
def admin(kafka: KafkaBroker) -> KafkaAdmin:
    return KafkaAdmin({"bootstrap.servers": kafka.bootstrap})


def topic(name: str = "", **fields: Any) -> Topic:
    return Topic.model_validate({"name": name or f"topics-{uuid4().hex[:8]}", **fields})


def test_a_topic_is_made_once(admin: KafkaAdmin) -> None:
    wished = topic(partitions=3, replication=1, config={"cleanup.policy": "compact", "retention.ms": 60000})
    assert apply_topics(admin, [wished]) == {wished.name: "made"}
    found = admin.topics([wished.name])[wished.name]
    assert (found.partitions, found.replication) == (3, 1)
    assert (found.config["cleanup.policy"], found.config["retention.ms"]) == ("compact", "60000")
    assert apply_topics(admin, [wished]) == {wished.name: "as wished"}


def test_it_grows_and_is_configured_and_the_rest_stays(admin: KafkaAdmin) -> None:
    first = topic(partitions=1, config={"retention.ms": 60000, "max.message.bytes": 2000})
    apply_topics(admin, [first])
    second = topic(first.name, partitions=4, config={"retention.ms": 70000, "preallocate": True})
    done = apply_topics(admin, [second])
    assert done == {first.name: "4 partitions, retention.ms: 60000 → 70000, preallocate: false → true"}
    found = admin.topics([first.name])[first.name]
    assert (found.partitions, found.config["max.message.bytes"]) == (4, "2000")
    assert apply_topics(admin, [topic(first.name)]) == {first.name: "as wished"}


def test_nothing_is_done_if_one_cannot_be(admin: KafkaAdmin) -> None:
    there = topic(partitions=3)
    apply_topics(admin, [there])
    new, fewer, copies = topic(), topic(there.name, partitions=2), topic(there.name, replication=3)
    with pytest.raises(ConfigurationError, match="has 3 partitions, and the spec wants 2: partitions only grow"):
        apply_topics(admin, [new, fewer])
    with pytest.raises(ConfigurationError, match="has replication 1, and the spec wants 3"):
        apply_topics(admin, [new, copies])
    with pytest.raises(ServiceRefused, match=r"make topic .*: Unknown topic config name: cleanup\.polcy"):
        apply_topics(admin, [new, topic(config={"cleanup.polcy": "compact"})])
    with pytest.raises(ServiceRefused, match="only 1 broker"):
        apply_topics(admin, [new, topic(replication=3)])
    with pytest.raises(ServiceRefused, match=r"Invalid value .* retention.ms"):
        apply_topics(admin, [new, topic(there.name, config={"retention.ms": "a week"})])
    assert admin.topics([new.name]) == {}


def test_somebody_was_faster(admin: KafkaAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    wished = topic()
    apply_topics(admin, [wished])
    monkeypatch.setattr(KafkaAdmin, "topics", lambda *_: {})
    with pytest.raises(ServiceUnavailable, match="changed meanwhile"):
        apply_topics(admin, [wished])


def test_they_stay_or_go(admin: KafkaAdmin) -> None:
    wished = topic()
    apply_topics(admin, [wished])
    assert remove_topics(admin, [wished.name, "never"], delete=False) == {"deleted": [], "stay": [wished.name]}
    assert remove_topics(admin, [wished.name, "never"], delete=True) == {"deleted": [wished.name], "stay": []}
    assert remove_topics(admin, [wished.name], delete=True) == {"deleted": [], "stay": []}


def test_the_operator(kafka: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    name = topic().name
    monkeypatch.setenv(
        "AIRFLOW_CONN_KAFKA_DEFAULT", f'{{"conn_type": "kafka", "extra": {{"bootstrap.servers": "{kafka.bootstrap}"}}}}'
    )
    assert KafkaTopicsOperator(task_id="t", topics=[{"name": name}]).execute({}) == {name: "made"}
    with pytest.raises(AirflowFailException, match="partitions: Input should be greater than"):
        KafkaTopicsOperator(task_id="t", topics=[{"name": name, "partitions": 0}]).execute({})
    gone = KafkaTopicsOperator(task_id="t", topics=[topic(name)], state="absent", delete=True)
    assert gone.execute({}) == {"deleted": [name], "stay": []}


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"bootstrap.servers": "127.0.0.1:1"}, ServiceUnavailable, "Connection refused"),
        ({"bootstrap.servers": "nowhere.invalid:9092"}, ServiceUnavailable, "Failed to resolve"),
        ({"bootstrap.servers": "x", "no.such": "y"}, KafkaRefused, 'No such configuration property: "no.such"'),
    ],
)
def test_what_is_wrong_with_the_way_there_is_told(
    config: dict[str, str], error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_mlplatform.clients.kafka_admin.ANSWER_SECONDS", 2)
    with pytest.raises(error, match=message):
        KafkaAdmin(config).topics(["any"])


def test_a_wrong_password_is_no_outage(kafka: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_mlplatform.clients.kafka_admin.ANSWER_SECONDS", 2)
    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "a"}
    with pytest.raises(KafkaRefused, match="handshake failed") as raised:
        KafkaAdmin({"bootstrap.servers": kafka.bootstrap, "sasl.password": "s3cr3t", **login}).topics(["any"])
    assert "s3cr3t" not in str(raised.value)
