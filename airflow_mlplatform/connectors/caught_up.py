"""Whether a connector has caught up: a sink with its topics, a source with its snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Targets", "lag", "snapshot_done", "takes_snapshot"]

Targets = Mapping[str, Mapping[str, int]]
"""Offsets to reach, by topic and partition (a text, as in JSON)."""

NO_SNAPSHOT = frozenset({"no_data", "never", "schema_only"})


def lag(targets: Targets, offsets: Sequence[Mapping[str, Any]]) -> int:
    """Return how many offsets a sink lacks to its targets.

    :param offsets: what Connect tells of the sink; a partition that it does not tell of has not been begun.
    """
    committed = {
        (entry["partition"]["kafka_topic"], str(entry["partition"]["kafka_partition"])): int(
            entry["offset"]["kafka_offset"]
        )
        for entry in offsets
        if entry.get("offset")
    }
    return sum(
        max(0, target - committed.get((topic, partition), 0))
        for topic, partitions in targets.items()
        for partition, target in partitions.items()
    )


def takes_snapshot(config: Mapping[str, str]) -> bool:
    """Whether a source makes a snapshot at all."""
    return config.get("snapshot.mode", "initial") not in NO_SNAPSHOT


def snapshot_done(offsets: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a Debezium source has made its snapshot.

    While it lasts, its offset says ``snapshot`` (MongoDB: ``initsync``); at the end it says so, and with the first
    change after it these words are gone. Before the first record there is no offset.
    """
    return bool(offsets) and all(_beyond_snapshot(entry.get("offset") or {}) for entry in offsets)


def _beyond_snapshot(offset: Mapping[str, Any]) -> bool:
    ended = _true(offset.get("snapshot_completed")) or _true(offset.get("last_snapshot_record"))
    return ended or not (_true(offset.get("snapshot")) or _true(offset.get("initsync")))


def _true(value: object) -> bool:
    return str(value).lower() not in ("none", "false", "")
