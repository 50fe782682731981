"""How a consumer group does: whether it is stable, and how far it is behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.clients.kafka_admin import GroupMember, KafkaAdmin, Partition, kafka_errors

if TYPE_CHECKING:
    from confluent_kafka import Consumer

__all__ = ["ConsumerGroup", "GroupLook"]

FEW = 1000
FETCH_SECONDS = 10.0


@dataclass(frozen=True)
class GroupLook:
    """A consumer group at one moment.

    :param state: ``STABLE``, ``EMPTY``, ``DEAD``, ``PREPARING_REBALANCING`` …
    :param lag: records that it is behind, by partition.
    :param uncommitted: partitions with records, if it has committed no offset at all.
    """

    state: str
    members: frozenset[str]
    lag: Mapping[Partition, int] = field(default_factory=dict)
    uncommitted: frozenset[Partition] = frozenset()

    @property
    def behind(self) -> int:
        """Records that it is behind in all."""
        return sum(self.lag.values())


@dataclass
class ConsumerGroup:
    """A consumer group, looked at over one connection, however often.

    :param config: configuration of the client, in librdkafka's words.
    :param name: the group's id.
    """

    config: Mapping[str, str]
    name: str

    @cached_property
    def _admin(self) -> KafkaAdmin:
        return KafkaAdmin(self.config)

    def look(self) -> GroupLook:
        """Look at it now. This blocks.

        :raises ServiceUnavailable: if Kafka does not answer.
        :raises ServiceRefused: if it refuses.
        """
        state, members = self._admin.group(self.name)
        committed = self._admin.committed(self.name)
        # Some libraries are assigned partitions of which they never commit: Faust its own changelogs.
        lag = self._lag(committed, committed.keys() or _assigned(members))
        ids = frozenset(member.id for member in members)
        return GroupLook(state, ids, lag, frozenset(lag.keys() - committed.keys()))

    def _lag(self, committed: Mapping[Partition, int], partitions: Iterable[Partition]) -> dict[Partition, int]:
        first, end = self._admin.first_offsets(partitions), self._admin.end_offsets(partitions)
        lag = {one: end[one] - max(committed.get(one, 0), first[one]) for one in partitions}
        lag = {one: behind for one, behind in lag.items() if behind > 0}
        small = {one: committed[one] for one, behind in lag.items() if behind <= FEW and one in committed}
        if small:
            # What is left may be marks of transactions or removed by compaction: offsets without records.
            nothing = _without_records(self.config, self.name, small)
            lag = {one: behind for one, behind in lag.items() if one not in nothing}
        return lag


def _assigned(members: list[GroupMember]) -> set[Partition]:
    return {partition for member in members for partition in member.partitions}


def _without_records(config: Mapping[str, str], group: str, start: Mapping[Partition, int]) -> set[Partition]:
    """Return the partitions that hold no record from an offset to their end."""
    from confluent_kafka import Consumer, TopicPartition

    reading = {
        "group.id": f"{group}-looked-at", "enable.auto.commit": "false", "enable.partition.eof": "true",
        "isolation.level": "read_committed", "auto.offset.reset": "earliest", "log_level": "2",
        "fetch.message.max.bytes": "65536",
    }  # fmt: skip
    with kafka_errors(f"read behind the offsets of consumer group {group}"):
        consumer: Consumer = Consumer({**config, **reading})
        try:
            consumer.assign([TopicPartition(*one, offset) for one, offset in start.items()])
            return _ended(consumer, set(start))
        finally:
            consumer.close()


def _ended(consumer: Any, left: set[Partition]) -> set[Partition]:
    from confluent_kafka import KafkaError

    ended: set[Partition] = set()
    while left:
        message = consumer.poll(FETCH_SECONDS)
        if message is None:
            break
        partition = (message.topic(), message.partition())
        if message.error() and message.error().code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            ended |= {partition} & left
        left.discard(partition)
    return ended
