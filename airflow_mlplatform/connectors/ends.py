"""Where topics end: the offset after the last record that a sink can get."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable

if TYPE_CHECKING:
    from confluent_kafka import Consumer

__all__ = ["end_offsets"]

ANSWER_SECONDS = 30.0
# How far before its end a topic is read first, to find its last record.
TAIL = 8


def end_offsets(client: Mapping[str, Any], connector: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Return the ends of the topics of a sink, by topic and partition; partitions without records are left out.

    A partition may end with marks of transactions, which no consumer is given and no sink commits; they do not count.

    :param client: config of the Kafka client, in librdkafka's words.
    :param connector: config of the sink.
    :raises ServiceUnavailable: if no broker answers.
    :raises ConfigurationError: if the config names no topics.
    """
    from confluent_kafka import Consumer, KafkaException

    isolation = connector.get("consumer.override.isolation.level", "read_uncommitted")
    ours = {"group.id": "mlplatform-ends", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer({**client, **ours, "isolation.level": isolation, "log_level": 2})
    try:
        found: dict[str, dict[str, int]] = {}
        for topic, partition in _partitions(consumer, connector):
            if (end := _end(consumer, topic, partition)) is not None:
                found.setdefault(topic, {})[str(partition)] = end
        return found
    except KafkaException as error:
        raise ServiceUnavailable(
            f"Kafka does not tell where the topics end: {error.args[0]}; see that its brokers run and that the "
            "connection kafka_conn_id is right"
        ) from error
    finally:
        consumer.close()


def _partitions(consumer: Consumer, connector: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    wanted = _wanted(connector)
    for name, topic in sorted(consumer.list_topics(timeout=ANSWER_SECONDS).topics.items()):
        if wanted.fullmatch(name):
            yield from ((name, number) for number in sorted(topic.partitions))


def _wanted(connector: Mapping[str, str]) -> re.Pattern[str]:
    if pattern := connector.get("topics.regex"):
        return re.compile(pattern)
    names = [name.strip() for name in connector.get("topics", "").split(",") if name.strip()]
    if not names:
        raise ConfigurationError("the sink's config names neither topics nor topics.regex; add one")
    return re.compile("|".join(map(re.escape, names)))


def _end(consumer: Consumer, topic: str, partition: int) -> int | None:
    """Return the offset after the last record; ``None`` if there is no record."""
    from confluent_kafka import TopicPartition

    low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_SECONDS)
    tail = TAIL
    while low < high:
        start = max(low, high - tail)
        consumer.assign([TopicPartition(topic, partition, start)])
        if (last := _last(consumer, high)) is not None:
            return last + 1
        high, tail = start, tail * 8
    return None


def _last(consumer: Consumer, high: int) -> int | None:
    """Return the offset of the last record from where the consumer stands to an end."""
    from confluent_kafka import KafkaError, KafkaException

    last: int | None = None
    while True:
        message = consumer.poll(ANSWER_SECONDS)
        if message is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - its public name for a time-out
        error = message.error()
        offset = message.offset()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
            raise KafkaException(error)
        if error is not None or offset is None or offset >= high:
            return last
        last = offset
        if offset + 1 >= high:
            return last
