"""A topic as it is just now: its id, its partitions, and where they begin and end."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.steps.kafka.config import client_config
from airflow_mlplatform.steps.kafka.problems import Problems
from airflow_mlplatform.steps.kafka.ranges import Bounds

if TYPE_CHECKING:
    from airflow_mlplatform.specs.kafka import KafkaSource
    from airflow_mlplatform.steps.login import Login

__all__ = ["Topic"]

log = logging.getLogger(__name__)

TIMEOUT = 30.0


@dataclass(frozen=True)
class Topic:
    """A topic, and how to reach it.

    :param name: its name.
    :param login: connection of type kafka.
    """

    name: str
    login: Login

    @classmethod
    def of(cls, source: KafkaSource, login: Login) -> Topic:
        """The topic of a source."""
        return cls(source.topic, login)

    @property
    def where(self) -> str:
        """Topic and connection, for messages."""
        return f"topic {self.name} (connection {self.login.id!r})"

    def bounds(self) -> Bounds:
        """Ask for the topic's partitions and their first and last offsets; open transactions are not counted.

        :raises NotFound: if there is no such topic.
        :raises ServiceRefused: if the login is wrong or may not.
        :raises ServiceUnavailable: if the brokers do not answer.
        """
        from confluent_kafka.admin import AdminClient

        problems = Problems(self.where)
        with problems.named():
            admin = AdminClient({**client_config(self.login), "error_cb": problems.add}, logger=log)
            try:
                return self._ask(admin)
            finally:
                admin.poll(0)  # hands over what the client has complained of meanwhile

    def _ask(self, admin: Any) -> Bounds:
        from confluent_kafka import IsolationLevel, TopicCollection, TopicPartition
        from confluent_kafka.admin import OffsetSpec

        found = admin.describe_topics(TopicCollection([self.name]), request_timeout=TIMEOUT)[self.name].result()
        partitions = [TopicPartition(self.name, one.id) for one in found.partitions]
        options = {"isolation_level": IsolationLevel.READ_COMMITTED, "request_timeout": TIMEOUT}
        firsts = admin.list_offsets(dict.fromkeys(partitions, OffsetSpec.earliest()), **options)
        ends = admin.list_offsets(dict.fromkeys(partitions, OffsetSpec.latest()), **options)
        spans = {one.partition: (firsts[one].result().offset, ends[one].result().offset) for one in partitions}
        return Bounds(str(found.topic_id) if found.topic_id else "", spans)
