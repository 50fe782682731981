"""Topics as a spec wishes them: compared with those that are there, all at once, then made, grown and configured."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.clients.kafka_admin import FoundTopic, KafkaRefused
from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable

if TYPE_CHECKING:
    from airflow_mlplatform.clients.kafka_admin import KafkaAdmin
    from airflow_mlplatform.specs.streaming import Topic

__all__ = ["Change", "Settings", "apply_topics", "compare", "remove_topics"]

log = logging.getLogger(__name__)

Settings = dict[str, str]

SEEN_SECONDS = 30.0
LOOKS = 0.2


@dataclass(frozen=True)
class Change:
    """What a topic needs to be as wished.

    :param make: it is not there.
    :param partitions: how many it gets in all; ``None`` to leave them.
    :param config: setting → value as it is (``None`` if unknown) and as it is to be.
    """

    topic: Topic
    make: bool
    partitions: int | None
    config: Mapping[str, tuple[str | None, str]]

    @property
    def wanted(self) -> Settings:
        """The settings that change."""
        return {key: new for key, (_, new) in self.config.items()}

    def __bool__(self) -> bool:
        return self.make or self.partitions is not None or bool(self.config)

    def __str__(self) -> str:
        if self.make:
            return "made"
        grown = [f"{self.partitions} partitions"] if self.partitions else []
        return ", ".join([*grown, *(f"{key}: {old} → {new}" for key, (old, new) in self.config.items())]) or "as wished"


def compare(topic: Topic, found: FoundTopic | None) -> Change:
    """Tell what a topic needs.

    :param found: as it is; ``None`` if it is not there.
    :raises ConfigurationError: if nothing makes it as wished: partitions never shrink, replicas are not moved here.
    """
    if found is None:
        return Change(topic, True, topic.partitions, {key: (None, text) for key, text in settings_of(topic).items()})
    if topic.partitions is not None and topic.partitions < found.partitions:
        raise ConfigurationError(
            f"topic {topic.name} has {found.partitions} partitions, and the spec wants {topic.partitions}: partitions "
            f"only grow; write partitions: {found.partitions}, or use a new topic"
        )
    if topic.replication is not None and topic.replication != found.replication:
        raise ConfigurationError(
            f"topic {topic.name} has replication {found.replication}, and the spec wants {topic.replication}: moving "
            f"replicas is the work of kafka-reassign-partitions; do that first, or write replication: "
            f"{found.replication}"
        )
    grow = topic.partitions if topic.partitions and topic.partitions > found.partitions else None
    wanted = settings_of(topic)
    differing = {key: (found.config.get(key), text) for key, text in wanted.items() if found.config.get(key) != text}
    return Change(topic, False, grow, differing)


def settings_of(topic: Topic) -> Settings:
    """Return the settings as Kafka writes them."""
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in topic.config.items()}


def apply_topics(admin: KafkaAdmin, topics: Sequence[Topic]) -> dict[str, str]:
    """Make topics what the spec says; nothing is done before all of them have been compared.

    What of a topic the spec does not name stays as it is.

    :return: what was done, by topic.
    :raises ConfigurationError: if a topic is wished otherwise than it can be.
    """
    changes = _changes(topics, admin.topics(topic.name for topic in topics))
    for dry_run in (True, False):
        for change in changes:
            _carry_out(admin, change, dry_run=dry_run)
    _wait_until_seen(admin, [change for change in changes if change])
    for change in changes:
        log.info("Topic %s: %s", change.topic.name, change)
    return {change.topic.name: str(change) for change in changes}


def _changes(topics: Iterable[Topic], found: Mapping[str, FoundTopic]) -> list[Change]:
    changes, problems = [], []
    for topic in topics:
        try:
            changes.append(compare(topic, found.get(topic.name)))
        except ConfigurationError as error:
            problems.append(str(error))
    if problems:
        raise ConfigurationError("\n".join(problems))
    return changes


def _carry_out(admin: KafkaAdmin, change: Change, *, dry_run: bool) -> None:
    topic = change.topic
    try:
        if change.make:
            admin.create(topic.name, topic.partitions, topic.replication, change.wanted, dry_run=dry_run)
        elif change.partitions:
            _warn_of_keys(change, dry_run)
            admin.grow(topic.name, change.partitions, dry_run=dry_run)
        if change.config and not change.make:
            admin.configure(topic.name, change.wanted, dry_run=dry_run)
    except KafkaRefused as error:
        if error.code in ("TOPIC_ALREADY_EXISTS", "INVALID_PARTITIONS"):
            # Somebody was faster; the next try compares with what they made.
            raise ServiceUnavailable(f"topic {topic.name} changed meanwhile: {error}; a retry looks again") from error
        raise


def _warn_of_keys(change: Change, dry_run: bool) -> None:
    if not dry_run:
        log.warning(
            "Topic %s grows to %d partitions: records of a key may come to another partition than those before them",
            change.topic.name,
            change.partitions,
        )


def _wait_until_seen(admin: KafkaAdmin, changes: Sequence[Change]) -> None:
    """Wait until the brokers tell of what was done: they learn it one after the other."""
    deadline = time.monotonic() + SEEN_SECONDS
    topics = [change.topic for change in changes]
    while any(_changes(topics, admin.topics(topic.name for topic in topics))):
        if time.monotonic() > deadline:
            names = ", ".join(topic.name for topic in topics)
            raise ServiceUnavailable(
                f"Kafka did not show the changes of {names} within {SEEN_SECONDS:.0f} s; try again"
            )
        time.sleep(LOOKS)


def remove_topics(admin: KafkaAdmin, names: Sequence[str], *, delete: bool) -> dict[str, Any]:
    """Delete topics with their data, or tell that they stay.

    :return: the topics that were ``deleted`` and those that ``stay``.
    """
    there = sorted(admin.topics(names))
    if not delete:
        for name in there:
            log.info("Topic %s stays, with its data; delete_topics: true deletes it", name)
        return {"deleted": [], "stay": there}
    for name in there:
        admin.delete(name)
        log.info("Topic %s: deleted", name)
    deadline = time.monotonic() + SEEN_SECONDS
    while left := sorted(admin.topics(there)):
        if time.monotonic() > deadline:
            raise ServiceUnavailable(f"topics {', '.join(left)} are still there, or there again: who writes to them?")
        time.sleep(LOOKS)
    return {"deleted": there, "stay": []}
