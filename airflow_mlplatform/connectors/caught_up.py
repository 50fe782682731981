"""Whether a connector has caught up: a sink with its topics, a source with its snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow_mlplatform.clients.kafka_connect_entities import Plugin

__all__ = ["Targets", "lag", "snapshot_done", "takes_snapshot"]

Targets = Mapping[str, Mapping[str, int]]
"""Offsets to reach, by topic and partition (a text, as in JSON)."""

DEBEZIUM = "io.debezium."
# Values of snapshot.mode, former ones too: https://debezium.io/documentation/reference/stable/connectors/
NO_SNAPSHOT = frozenset({"no_data", "recovery", "never", "schema_only", "schema_only_recovery"})


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


def takes_snapshot(plugin: Plugin, config: Mapping[str, str]) -> bool:
    """Whether a source makes a snapshot at all.

    :raises ConfigurationError: if it is none of Debezium's: no other kind tells of snapshots.
    """
    if not plugin.name.startswith(DEBEZIUM):
        raise ConfigurationError(
            f"{plugin.name} does not tell when it has caught up; sinks do, and sources of Debezium, which make a "
            "snapshot; drop wait_until"
        )
    mode = config.get("snapshot.mode", "initial").lower()
    if mode == "configuration_based":
        return config.get("snapshot.mode.configuration.based.snapshot.data", "false").lower() == "true"
    return mode not in NO_SNAPSHOT


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
