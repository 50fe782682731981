"""How a consumer group does, told by a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer

from airflow_mlplatform.clients.kafka_admin import KafkaAdmin
from airflow_mlplatform.clients.kafka_group import ConsumerGroup, GroupLook
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.services.kafka_broker import KafkaBroker


@pytest.fixture
def name(kafka: KafkaBroker) -> str:
    """A topic of two partitions; a group is called the same."""
    name = f"group-{uuid4().hex[:8]}"
    KafkaAdmin({"bootstrap.servers": kafka.bootstrap}).create(name, 2, 1, {}, dry_run=False)
    return name


def look(kafka: KafkaBroker, name: str) -> GroupLook:
    return ConsumerGroup({"bootstrap.servers": kafka.bootstrap}, name).look()


def send(kafka: KafkaBroker, topic: str, count: int, **options: Any) -> Producer:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, **options})
    if options:
        producer.init_transactions(30)
        producer.begin_transaction()
    for number in range(count):
        producer.produce(topic, str(number), partition=number % 2)
    if not options:
        assert producer.flush(30) == 0
    return producer


@contextmanager
def member(kafka: KafkaBroker, name: str) -> Iterator[Consumer]:
    consumer = Consumer({
        "bootstrap.servers": kafka.bootstrap, "group.id": name, "auto.offset.reset": "earliest",
        "enable.auto.commit": "false", "isolation.level": "read_committed",
    })  # fmt: skip
    consumer.subscribe([name])
    wait_for(lambda: consumer.poll(0.1) is None and consumer.assignment())
    try:
        yield consumer
    finally:
        consumer.close()


def test_a_group_that_never_was(kafka: KafkaBroker) -> None:
    assert look(kafka, "nobody").state == "DEAD"
    assert look(kafka, "nobody").behind == 0


def test_members_and_lag(kafka: KafkaBroker, name: str) -> None:
    with member(kafka, name) as consumer:
        send(kafka, name, 10)
        fresh = look(kafka, name)
        assert (fresh.state, len(fresh.members), fresh.behind, len(fresh.uncommitted)) == ("STABLE", 1, 10, 2)
        messages = consumer.consume(10, 20)
        assert len(messages) == 10
        consumer.commit(asynchronous=False)
        assert look(kafka, name) == GroupLook("STABLE", fresh.members)
    assert look(kafka, name).state == "EMPTY"


def test_marks_of_transactions_are_no_records(kafka: KafkaBroker, name: str) -> None:
    with ExitStack() as stack:
        consumer = stack.enter_context(member(kafka, name))
        send(kafka, name, 4, **{"transactional.id": name}).commit_transaction(30)
        assert len(consumer.consume(4, 20)) == 4
        consumer.commit(asynchronous=False)
        admin = KafkaAdmin({"bootstrap.servers": kafka.bootstrap})
        committed, end = admin.committed(name), admin.end_offsets([(name, 0), (name, 1)])
        assert sum(end.values()) > sum(committed.values())
        assert look(kafka, name).behind == 0
        send(kafka, name, 4, **{"transactional.id": name}).abort_transaction(30)
        assert look(kafka, name).behind == 0
        send(kafka, name, 2)
        assert look(kafka, name).behind > 0
