"""Reading a range of a topic, message by message, with no more than a few megabytes in memory."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.steps.kafka.config import client_config, consumer_config
from airflow_mlplatform.steps.kafka.problems import Problems, kafka_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_mlplatform.steps.kafka.ranges import Reach
    from airflow_mlplatform.steps.kafka.topic import Topic

__all__ = ["read_messages"]

log = logging.getLogger(__name__)

FIRST, MOST = 100, 10_000
BATCH = 2**20
POLL = 0.05
PATIENCE = 60.0


def read_messages(topic: Topic, reach: Reach) -> Iterator[list[Any]]:
    """Yield the messages (``confluent_kafka.Message``) of a range, some at a time, each partition in order.

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

    def batches(self) -> Iterator[list[Any]]:
        while self.left:
            messages = self._next()
            self.problems.demand_hope()
            if messages:
                self.heard = time.monotonic()
                yield from self._pieces(self._wanted(messages))
                self.heard = time.monotonic()
            else:
                if time.monotonic() - self.heard > PATIENCE:
                    raise self.problems.silence()
                # Nothing came; empty batches let the engine stop us.
                yield []

    def _next(self) -> list[Any]:
        messages: list[Any] = self.consumer.consume(self.most, POLL)
        return messages

    def _pieces(self, messages: list[Any]) -> Iterator[list[Any]]:
        """Cut what came into batches of about a megabyte, and learn how many records make one."""
        if not messages:
            return
        size = sum(map(len, messages)) / len(messages)
        self.most = max(1, min(MOST, int(BATCH / max(size, 1))))
        for start in range(0, len(messages), self.most):
            yield messages[start : start + self.most]

    def _wanted(self, messages: Sequence[Any]) -> list[Any]:
        from confluent_kafka import Message

        if any(map(Message.error, messages)):
            ends = [message for message in messages if message.error()]
            messages = [message for message in messages if not message.error()]
        else:
            ends = []
        last = dict(zip(map(Message.partition, messages), map(Message.offset, messages), strict=True))
        wanted = self._within(messages, last)
        self._done({partition: offset + 1 for partition, offset in last.items()})
        self._done(dict(map(self._end, ends)))
        return wanted

    def _within(self, messages: Sequence[Any], last: dict[int, int]) -> list[Any]:
        """Drop what came after the range; partitions that have been read to their end may still send."""
        if all(offset < self.left.get(partition, 0) for partition, offset in last.items()):
            return list(messages)
        return [message for message in messages if message.offset() < self.left.get(message.partition(), 0)]

    def _end(self, message: Any) -> tuple[int, int]:
        """Tell at which offset a partition ends. Only this tells of an end behind aborted or compacted records."""
        error = message.error()
        if error.name() != "_PARTITION_EOF":
            raise kafka_error(error, f"{self.topic.where}, partition {message.partition()}")
        return message.partition(), message.offset()

    def _done(self, reached: dict[int, int]) -> None:
        from confluent_kafka import TopicPartition

        done = [one for one, offset in reached.items() if offset >= self.left.get(one, offset + 1)]
        for partition in done:
            del self.left[partition]
        if done and self.left:
            self.consumer.incremental_unassign([TopicPartition(self.topic.name, one) for one in done])
