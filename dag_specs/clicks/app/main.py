"""Order events in, per-customer features out, each event counted exactly once.

Each batch is one transaction of Kafka: the features that it changes and the offsets that it read become visible
together, or not at all. What the app knows of a customer lies in its own compacted output topic, in the partition with
the number of the orders' partition; whoever is given a partition reads it from there. So nothing is lost or counted
twice when a pod is killed, when pods come and go, or when the broker restarts.

Whoever lost a partition without noticing cannot write: Kafka refuses offsets of a former generation of the group
(KIP-447), and with them the whole transaction.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from features import Features, customer_of, updated
from health import Health
from kafka import (
    ConsumerGroupMetadata,
    ConsumerRebalanceListener,
    KafkaConsumer,
    KafkaProducer,
    OffsetAndMetadata,
    TopicPartition,
)
from kafka.errors import CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError
from messages import change_of, features_of, message_of

log = logging.getLogger("clicks")

POLL_MS = 500
BATCH = 500
# A pod that dies must not keep the next one waiting for its open transaction.
TRANSACTION_MS = 10_000
SESSION_MS = 15_000
LOST = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)
Known = dict[int, Features]
Batch = dict[TopicPartition, list[Any]]


@dataclass(frozen=True)
class Settings:
    """Where the app reads and writes.

    :param instance: the same for no other instance that runs; the pod's name.
    """

    brokers: str
    orders: str
    features: str
    group: str
    port: int
    instance: str

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read them from the environment."""
        return cls(
            environ["KAFKA_BROKERS"],
            environ["ORDERS_TOPIC"],
            environ["FEATURES_TOPIC"],
            environ["GROUP"],
            int(environ.get("PORT", "8080")),
            environ.get("HOSTNAME") or socket.gethostname(),
        )


class Assignment(ConsumerRebalanceListener):
    """Forgets what is known of partitions when they go: another pod may change it."""

    def __init__(self, known: dict[int, Known], health: Health) -> None:
        self._known = known
        self._health = health

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002
        """Forget everything; it is read again when it is needed."""
        self._known.clear()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Be ready, with partitions or without."""
        log.info("reading partitions %s", sorted(partition.partition for partition in assigned))
        self._health.joined()


@dataclass
class App:
    """The loop: read, count, write, commit."""

    settings: Settings
    health: Health
    stopping: threading.Event = field(default_factory=threading.Event)
    _known: dict[int, Known] = field(default_factory=dict)

    def run(self) -> None:
        """Work until told to stop; the batch at hand is finished."""
        consumer, producer = self._consumer(group_id=self.settings.group), self._producer()
        try:
            self._check_topics(consumer)
            consumer.subscribe([self.settings.orders], listener=Assignment(self._known, self.health))
            producer.init_transactions()
            while not self.stopping.is_set():
                batch = consumer.poll(timeout_ms=POLL_MS, max_records=BATCH)
                member = consumer.group_metadata()
                self.health.alive()
                if batch and member.generation_id < 0:
                    self._read_again(consumer, batch)
                elif batch:
                    self._count(consumer, producer, batch, member)
        finally:
            # Leaving the group lets the other pods go on at once.
            consumer.close(autocommit=False)
            producer.close(timeout=5)

    def _check_topics(self, consumer: KafkaConsumer) -> None:
        orders, features = (
            len(consumer.partitions_for_topic(topic) or ()) for topic in (self.settings.orders, self.settings.features)
        )
        if not orders or orders != features:
            raise SystemExit(
                f"topic {self.settings.orders} has {orders} partitions and {self.settings.features} {features}: make "
                "both, with the same number"
            )

    def _count(
        self, consumer: KafkaConsumer, producer: KafkaProducer, batch: Batch, member: ConsumerGroupMetadata
    ) -> None:
        producer.begin_transaction()
        try:
            for partition, records in batch.items():
                for features in self._changed(partition.partition, records):
                    key, value = message_of(features)
                    producer.send(self.settings.features, value, key, partition=partition.partition)
            behind = {one: OffsetAndMetadata(records[-1].offset + 1, "", -1) for one, records in batch.items()}
            producer.send_offsets_to_transaction(behind, member)
            producer.commit_transaction()
        except LOST as error:
            log.info("partitions went to another pod meanwhile (%s); its count holds", type(error).__name__)
            producer.abort_transaction()
            self._read_again(consumer, batch)
        else:
            self.health.counted(sum(len(records) for records in batch.values()))

    def _changed(self, partition: int, records: list[Any]) -> list[Features]:
        """Count records; return the features that changed, each once."""
        known = self._known_of(partition)
        changed: Known = {}
        for record in records:
            try:
                if (change := change_of(record.value)) is None:
                    continue
                customer = customer_of(change)
                changed[customer] = known[customer] = updated(known.get(customer, Features(customer)), change)
            except (ValueError, KeyError, TypeError) as error:
                place = f"{record.topic}, partition {partition}, offset {record.offset}"
                raise SystemExit(f"{place} is no change of an order: {type(error).__name__}: {error}") from error
        return list(changed.values())

    def _known_of(self, partition: int) -> Known:
        if partition not in self._known:
            self._known[partition] = self._restored(partition)
        return self._known[partition]

    def _restored(self, partition: int) -> Known:
        """Read what was known of the customers of a partition.

        Up to its very end, past what is still in a transaction: that ends, well or not, before the last record is read.
        """
        place = TopicPartition(self.settings.features, partition)
        with self._consumer() as latest, self._consumer(isolation_level="read_committed") as reader:
            end = latest.end_offsets([place])[place]
            reader.assign([place])
            reader.seek_to_beginning(place)
            known: Known = {}
            while reader.position(place) < end:
                for record in reader.poll(timeout_ms=POLL_MS).get(place, ()):
                    features = features_of(record.value)
                    known[features.customer_id] = features
                self.health.alive()
        log.info("partition %d: %d customers", partition, len(known))
        return known

    def _read_again(self, consumer: KafkaConsumer, batch: Batch) -> None:
        self._known.clear()
        for partition in batch.keys() & consumer.assignment():
            consumer.seek(partition, batch[partition][0].offset)

    def _consumer(self, **options: Any) -> KafkaConsumer:
        common = {"bootstrap_servers": self.settings.brokers, "client_id": self.settings.instance}
        reading = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "group_id": None}
        if "group_id" in options:
            reading |= {"isolation_level": "read_committed", "session_timeout_ms": SESSION_MS}
        return KafkaConsumer(**common, **{**reading, **options})

    def _producer(self) -> KafkaProducer:
        return KafkaProducer(
            bootstrap_servers=self.settings.brokers,
            client_id=self.settings.instance,
            transactional_id=f"{self.settings.group}-{self.settings.instance}",
            transaction_timeout_ms=TRANSACTION_MS,
            compression_type="gzip",
            linger_ms=20,
        )


def main() -> None:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kafka").setLevel(logging.WARNING)
    settings = Settings.read()
    health = Health()
    app = App(settings, health)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        log.info("asked to stop")
        app.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with health.served(settings.port):
        app.run()
    log.info("stopped")


if __name__ == "__main__":
    main()
