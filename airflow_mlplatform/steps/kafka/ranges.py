"""Which offsets of a topic a run reads."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.kafka import KafkaSource

__all__ = ["Bounds", "Position", "Reach", "missing", "plan"]

log = logging.getLogger(__name__)

Span = tuple[int, int]


@dataclass(frozen=True)
class Position:
    """How far a topic has been loaded.

    :param topic_id: the topic's own id, another one if it is deleted and made anew; empty where brokers tell none.
    :param offsets: partition → the first offset that is not loaded.
    """

    topic_id: str
    offsets: Mapping[int, int]

    def to_dict(self) -> dict[str, Any]:
        """Write it as JSON has it."""
        return {"topic_id": self.topic_id, "offsets": {str(one): self.offsets[one] for one in sorted(self.offsets)}}

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Position:
        """Read it from JSON."""
        return cls(raw["topic_id"], {int(partition): offset for partition, offset in raw["offsets"].items()})


@dataclass(frozen=True)
class Bounds:
    """What a topic holds just now.

    :param topic_id: see :class:`Position`.
    :param spans: partition → its first offset, and the one after the last that readers of committed records see.
    """

    topic_id: str
    spans: Mapping[int, Span]


@dataclass(frozen=True)
class Reach:
    """What one run reads of a topic.

    :param topic_id: see :class:`Position`.
    :param spans: partition → first offset, and the one after the last.
    """

    topic_id: str
    spans: Mapping[int, Span] = field(default_factory=dict)

    @property
    def begin(self) -> Position:
        """How far the topic was loaded before."""
        return Position(self.topic_id, {partition: start for partition, (start, _) in self.spans.items()})

    @property
    def end(self) -> Position:
        """How far it is loaded afterwards."""
        return Position(self.topic_id, {partition: stop for partition, (_, stop) in self.spans.items()})

    @property
    def offsets(self) -> int:
        """Number of offsets; there may be fewer records, after compaction or with transactions."""
        return sum(stop - start for start, stop in self.spans.values())

    def to_dict(self) -> dict[str, Any]:
        """Write it as JSON has it."""
        return {"topic_id": self.topic_id, "spans": {str(one): list(self.spans[one]) for one in sorted(self.spans)}}

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Reach:
        """Read it from JSON."""
        return cls(
            raw["topic_id"], {int(partition): (start, stop) for partition, (start, stop) in raw["spans"].items()}
        )


def plan(position: Position | None, bounds: Bounds, source: KafkaSource) -> Reach:
    """Decide what a run reads: from where the last one ended to the end as it is now.

    A partition that is new since then is read from its beginning.

    :param position: how far the topic has been loaded; ``None`` before the first run.
    :raises ConfigurationError: if records are gone that have not been read, and the source does not skip gaps.
    """
    if position is None:
        first = source.start == "latest"
        return Reach(bounds.topic_id, {one: (span[first], span[1]) for one, span in bounds.spans.items()})
    if position.topic_id and bounds.topic_id and position.topic_id != bounds.topic_id:
        _lost(source, "is another one than the last run read: it was deleted and made anew")
        return Reach(bounds.topic_id, dict(bounds.spans))
    return Reach(bounds.topic_id, {one: _span(one, position, bounds, source) for one in bounds.spans})


def _span(partition: int, position: Position, bounds: Bounds, source: KafkaSource) -> Span:
    wanted = position.offsets.get(partition, 0)
    first, stop = bounds.spans[partition]
    if wanted < first:
        _lost(source, f"partition {partition}: offsets {wanted} to {first - 1} are gone; retention removed them unread")
    elif wanted > stop:
        _lost(source, f"partition {partition} ends at offset {stop} and was read to {wanted}: its end has been cut off")
    return min(max(wanted, first), stop), stop


def _lost(source: KafkaSource, what: str) -> None:
    if source.on_gap == "fail":
        raise ConfigurationError(
            f"topic {source.topic}: {what}; to go on with what is there, run once with on_gap: skip (and raise "
            "retention.ms or run more often)"
        )
    log.warning("Topic %s: %s; going on without them (on_gap: skip)", source.topic, what)


def missing(reach: Reach, bounds: Bounds) -> str:
    """Tell what of a range cannot be read any more; empty if all of it can."""
    if reach.topic_id and bounds.topic_id and reach.topic_id != bounds.topic_id:
        return "the topic was deleted and made anew"
    for partition, (start, stop) in sorted(reach.spans.items()):
        first, end = bounds.spans.get(partition, (0, 0))
        if start < stop and (start < first or stop > end):
            return f"partition {partition} holds offsets {first} to {end - 1}, not {start} to {stop - 1}"
    return ""
