"""Reading a range of a topic, some records at a time, with no more than a few megabytes in memory."""

from __future__ import annotations

import gc
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.steps.kafka.config import client_config, consumer_config
from airflow_mlplatform.steps.kafka.problems import Problems, kafka_error
from airflow_mlplatform.steps.kafka.records import Records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlplatform.steps.kafka.ranges import Reach
    from airflow_mlplatform.steps.kafka.topic import Topic

__all__ = ["read_records"]

log = logging.getLogger(__name__)

# Measured: docs/decisions/0008-kafka-client.md.
FIRST, MOST = 100, 2_048
BATCH = 2**20
POLL = 0.05
PATIENCE = 60.0


def read_records(topic: Topic, reach: Reach) -> Iterator[Records]:
    """Yield the records of a range, about a megabyte at a time, each partition in order.

    All partitions are fetched at once, by the client's own threads.

    :raises ConfigurationError: if records are removed while they are read.
    :raises ServiceUnavailable: if the brokers fall silent.
    """
    from confluent_kafka import Consumer, TopicPartition

    problems = Problems(topic.where)
    left = {partition: stop for partition, (start, stop) in reach.spans.items() if start < stop}
    if not left:
        return
    with problems.named():
        consumer = Consumer({**consumer_config(client_config(topic.login)), "error_cb": problems.add}, logger=log)
        try:
            consumer.assign([TopicPartition(topic.name, one, reach.spans[one][0]) for one in left])
            yield from _Reading(topic, consumer, problems, left).batches()
        finally:
            consumer.close()


@dataclass
class _Reading:
    """One pass over some partitions.

    :param left: partitions that are not read to their end → the offset at which to stop.
    """

    topic: Topic
    consumer: Any
    problems: Problems
    left: dict[int, int]
    heard: float = field(default_factory=time.monotonic)
    most: int = FIRST

    def batches(self) -> Iterator[Records]:
        while self.left:
            with _uncollected():
                records, ends = self._next()
            self.problems.demand_hope()
            if records or ends:
                yield from self._pieces(self._wanted(records))
                self._done(ends)
                self.heard = time.monotonic()
            else:
                if time.monotonic() - self.heard > PATIENCE:
                    raise self.problems.silence()
                # Nothing came; empty batches let the engine stop us.
                yield Records()

    def _next(self) -> tuple[Records, dict[int, int]]:
        """Take what has come: records, and the partitions whose end has been reached."""
        from confluent_kafka import Message

        messages: list[Any] = self.consumer.consume(self.most, POLL)
        if not any(map(Message.error, messages)):
            return Records.of(messages), {}
        ends = dict(self._end(message) for message in messages if message.error())
        return Records.of([message for message in messages if not message.error()]), ends

    def _end(self, message: Any) -> tuple[int, int]:
        """Tell at which offset a partition ends. Only this tells of an end behind aborted or compacted records."""
        error = message.error()
        if error.name() != "_PARTITION_EOF":
            raise kafka_error(error, f"{self.topic.where}, partition {message.partition()}")
        return message.partition(), message.offset()

    def _wanted(self, records: Records) -> Records:
        """Drop what came after the range; partitions that have been read to their end may still send."""
        last = dict(zip(records.partitions, records.offsets, strict=True))
        if any(offset >= self.left.get(partition, 0) for partition, offset in last.items()):
            records = records.where(
                [
                    offset < self.left.get(partition, 0)
                    for partition, offset in zip(records.partitions, records.offsets, strict=True)
                ]
            )
        self._done({partition: offset + 1 for partition, offset in last.items()})
        return records

    def _pieces(self, records: Records) -> Iterator[Records]:
        """Cut what came into batches of about a megabyte, and learn how many records make one."""
        if not records:
            return
        self.most = max(1, min(MOST, BATCH * len(records) // max(records.size, 1)))
        for start in range(0, len(records), self.most):
            yield records.part(slice(start, start + self.most))

    def _done(self, reached: dict[int, int]) -> None:
        from confluent_kafka import TopicPartition

        done = [one for one, offset in reached.items() if offset >= self.left.get(one, offset + 1)]
        for partition in done:
            del self.left[partition]
        if done and self.left:
            self.consumer.incremental_unassign([TopicPartition(self.topic.name, one) for one in done])


@contextmanager
def _uncollected() -> Iterator[None]:
    """Make objects without the cyclic collector, which would walk through messages again and again: half of the time.

    Messages hold no cycles, and are gone at the end of the block.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
