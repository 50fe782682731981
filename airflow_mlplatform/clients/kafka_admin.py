"""Topics and consumer groups of a Kafka cluster, through confluent-kafka's AdminClient.

Every method blocks; it raises :class:`~airflow_mlplatform.exceptions.ServiceUnavailable` when no broker answers, or
cannot now, and :class:`~airflow_mlplatform.exceptions.ServiceRefused` when they will not.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_mlplatform.exceptions import ServiceRefused, ServiceUnavailable

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

__all__ = ["FoundTopic", "GroupMember", "KafkaAdmin", "KafkaRefused", "Partition", "kafka_errors"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Partition = tuple[str, int]

ANSWER_SECONDS = 30.0
# One line of librdkafka a second and broker is enough where none answers.
QUIET = {"log.connection.close": "false", "reconnect.backoff.ms": "1000", "log_level": "2"}
PASSING = frozenset({
    "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "LEADER_NOT_AVAILABLE", "NETWORK_EXCEPTION",
    "NOT_CONTROLLER", "NOT_COORDINATOR", "NOT_LEADER_FOR_PARTITION", "REBALANCE_IN_PROGRESS", "REQUEST_TIMED_OUT",
    "THROTTLING_QUOTA_EXCEEDED", "UNSTABLE_OFFSET_COMMIT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_TIMED_OUT",
    "_TIMED_OUT_QUEUE", "_TRANSPORT", "_WAIT_COORD",
})  # fmt: skip
# What librdkafka only mentions on the side while it goes on trying, although it cannot help.
LASTING = frozenset({"_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "_SSL", "TOPIC_AUTHORIZATION_FAILED"})


class KafkaRefused(ServiceRefused):
    """Kafka refused a request.

    :param code: name of Kafka's error, such as ``TOPIC_ALREADY_EXISTS``.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class FoundTopic:
    """A topic as it is.

    :param replication: copies of its partitions; the fewest, if they differ.
    :param config: every setting, whether set or by default.
    """

    partitions: int
    replication: int
    config: Mapping[str, str]


@dataclass(frozen=True)
class GroupMember:
    """A member of a consumer group and the partitions that it reads."""

    id: str
    host: str
    partitions: frozenset[Partition]


@contextmanager
def kafka_errors(what: str, aside: Iterable[KafkaError] = ()) -> Iterator[None]:
    """Turn Kafka's errors into this package's.

    :param what: what was asked, for messages.
    :param aside: errors that the client reported on the side meanwhile.
    """
    from confluent_kafka import KafkaException

    try:
        yield
    except KafkaException as error:
        told: KafkaError = error.args[0]
        reason = next((one for one in aside if one.name() in LASTING), None)
        if reason is None and told.name() in PASSING:
            said = "; ".join(dict.fromkeys(one.str() for one in aside)) or told.str()
            raise ServiceUnavailable(f"Kafka did not {what}: {said[:500]}; see that its brokers are up") from error
        reason = reason or told
        raise KafkaRefused(f"Kafka refused to {what}: {reason.str() or reason.name()}", reason.name()) from error


class KafkaAdmin:
    """Topics and groups of one cluster.

    :param config: configuration of the client, in librdkafka's words.
    """

    def __init__(self, config: Mapping[str, str]) -> None:
        from confluent_kafka.admin import AdminClient

        self._aside: deque[KafkaError] = deque(maxlen=20)
        with kafka_errors("take the configuration of the connection"):
            self._client: Any = AdminClient({**QUIET, **config, "error_cb": self._aside.append}, logger=log)

    def topics(self, names: Iterable[str]) -> dict[str, FoundTopic]:
        """Return those of some topics that are there."""
        from confluent_kafka import TopicCollection

        wanted = list(names)
        if not wanted:
            return {}
        futures = self._client.describe_topics(TopicCollection(wanted), request_timeout=ANSWER_SECONDS)
        found = {name: self._there(name, future) for name, future in futures.items()}
        described = {name: topic for name, topic in found.items() if topic is not None}
        configs = self._configs(described)
        return {
            name: FoundTopic(len(topic.partitions), min(len(part.replicas) for part in topic.partitions), configs[name])
            for name, topic in described.items()
        }

    def _there(self, name: str, future: Future[Any]) -> Any | None:
        try:
            return self._result(f"describe topic {name}", future)
        except KafkaRefused as error:
            if error.code != "UNKNOWN_TOPIC_OR_PART":
                raise
        return None

    def _configs(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        from confluent_kafka.admin import ConfigResource

        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
        futures = self._client.describe_configs(resources, request_timeout=ANSWER_SECONDS) if resources else {}
        entries = {
            one.name: self._result(f"tell the settings of topic {one.name}", told) for one, told in futures.items()
        }
        return {name: {key: str(entry.value) for key, entry in found.items()} for name, found in entries.items()}

    def create(
        self, name: str, partitions: int | None, replication: int | None, config: Mapping[str, str], *, dry_run: bool
    ) -> None:
        """Make a topic.

        :param partitions: the brokers' default if ``None``; the same for ``replication``.
        :param dry_run: only see that the brokers would.
        :raises KafkaRefused: if they do not, or it is there already (``TOPIC_ALREADY_EXISTS``).
        """
        from confluent_kafka.admin import NewTopic

        topic = NewTopic(
            name, num_partitions=partitions or -1, replication_factor=replication or -1, config=dict(config)
        )
        futures = self._client.create_topics([topic], validate_only=dry_run, request_timeout=ANSWER_SECONDS)
        self._result(f"make topic {name}", futures[name])

    def grow(self, name: str, partitions: int, *, dry_run: bool) -> None:
        """Give a topic more partitions, so that it has so many in all."""
        from confluent_kafka.admin import NewPartitions

        futures = self._client.create_partitions(
            [NewPartitions(name, partitions)], validate_only=dry_run, request_timeout=ANSWER_SECONDS
        )
        self._result(f"give topic {name} {partitions} partitions", futures[name])

    def configure(self, name: str, config: Mapping[str, str], *, dry_run: bool) -> None:
        """Set some settings of a topic; others stay as they are."""
        from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in config.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)
        futures = self._client.incremental_alter_configs(
            [resource], validate_only=dry_run, request_timeout=ANSWER_SECONDS
        )
        self._result(f"change the settings of topic {name}", futures[resource])

    def delete(self, name: str) -> None:
        """Delete a topic with its data; nothing happens if it has gone."""
        futures = self._client.delete_topics([name], request_timeout=ANSWER_SECONDS)
        try:
            self._result(f"delete topic {name}", futures[name])
        except KafkaRefused as error:
            if error.code != "UNKNOWN_TOPIC_OR_PART":
                raise

    def group(self, name: str) -> tuple[str, list[GroupMember]]:
        """Return the state of a consumer group (``STABLE``, ``EMPTY``, ``DEAD`` …) and its members."""
        futures = self._client.describe_consumer_groups([name], request_timeout=ANSWER_SECONDS)
        try:
            found = self._result(f"describe consumer group {name}", futures[name])
        except KafkaRefused as error:
            if error.code != "GROUP_ID_NOT_FOUND":
                raise
            return "DEAD", []
        return found.state.name, [_member(member) for member in found.members]

    def committed(self, group: str) -> dict[Partition, int]:
        """Return the offsets that a group has committed."""
        from confluent_kafka import ConsumerGroupTopicPartitions

        futures = self._client.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group)], request_timeout=ANSWER_SECONDS
        )
        found = self._result(f"tell the offsets of consumer group {group}", futures[group])
        return {(one.topic, one.partition): one.offset for one in found.topic_partitions if one.offset >= 0}

    def first_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the offsets of the first records that are still there."""
        from confluent_kafka.admin import OffsetSpec

        return self._offsets(partitions, OffsetSpec.earliest())

    def end_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the offsets behind the last committed records."""
        from confluent_kafka.admin import OffsetSpec

        return self._offsets(partitions, OffsetSpec.latest())

    def _offsets(self, partitions: Iterable[Partition], which: Any) -> dict[Partition, int]:
        from confluent_kafka import IsolationLevel, TopicPartition

        asked = {TopicPartition(*partition): which for partition in partitions}
        if not asked:
            return {}
        futures = self._client.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ANSWER_SECONDS
        )
        return {
            (one.topic, one.partition): self._result(f"tell the offsets of {one.topic}", future).offset
            for one, future in futures.items()
        }

    def _result(self, what: str, future: Future[T]) -> T:
        with kafka_errors(what, self._aside):
            try:
                result = future.result()
            finally:
                self._client.poll(0)
        self._aside.clear()
        return result


def _member(member: Any) -> GroupMember:
    partitions = member.assignment.topic_partitions if member.assignment else ()
    return GroupMember(member.member_id, member.host, frozenset((one.topic, one.partition) for one in partitions))
