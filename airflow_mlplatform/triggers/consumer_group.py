"""Whether the consumer group of a new version works: stable, with its members, and catching up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mlplatform.clients.kafka_group import GroupLook

__all__ = ["GroupHealth"]


@dataclass
class GroupHealth:
    """Judges a consumer group by several looks.

    :param look: looks at it; blocks.
    :param group: its name.
    :param members: how many there are to be at least.
    :param settle: seconds that it must be stable with the same members.
    :param max_lag: records that it may be behind; ``None``: none, or fewer than before.
    :param clock: seconds, for the time to settle.
    """

    look: Callable[[], GroupLook]
    group: str
    members: int
    settle: float
    max_lag: int | None = None
    clock: Callable[[], float] = time.monotonic
    _stable_since: float = field(default=0.0, init=False)
    _ids: frozenset[str] = field(default=frozenset(), init=False)
    _most: int | None = field(default=None, init=False)

    async def missing(self) -> str | None:
        """Look at the group and return what is missing; ``None`` if it is well.

        :raises ServiceUnavailable: if Kafka does not answer.
        """
        seen = await asyncio.to_thread(self.look)
        return self._unstable(seen) or self._behind(seen)

    def _unstable(self, seen: GroupLook) -> str | None:
        now = self.clock()
        if seen.state != "STABLE" or seen.members != self._ids:
            self._stable_since, self._ids = now, seen.members
        if len(seen.members) < self.members or seen.state != "STABLE":
            return (
                f"consumer group {self.group} is {seen.state.lower().replace('_', ' ')} and has {len(seen.members)} of "
                f"{self.members} members"
            )
        if now - self._stable_since < self.settle:
            return f"consumer group {self.group} is stable with {len(seen.members)} members, but not for long"
        return None

    def _behind(self, seen: GroupLook) -> str | None:
        behind, most = seen.behind, self._most
        self._most = behind if most is None else max(behind, most)
        if behind <= (self.max_lag or 0) or (self.max_lag is None and most is not None and behind < most):
            return None
        text = f"consumer group {self.group} is {behind} records behind"
        if seen.uncommitted:
            some = ", ".join(f"{topic}-{number}" for topic, number in sorted(seen.uncommitted)[:3])
            return f"{text}, with no offset committed for {some}"
        return f"{text}, and not fewer than before" if self.max_lag is None else f"{text}, more than {self.max_lag}"
