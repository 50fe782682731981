"""How a trigger bears a service that is away: growing pauses, and one line in the log an outage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

__all__ = ["Outages"]

LONGEST_PAUSE = 60.0


@dataclass
class Outages:
    """Remembers whether the service answered the last time.

    :param interval: seconds between two looks while all is well.
    :param log: where beginning and end of an outage are written.
    """

    interval: float
    log: logging.Logger | Any
    failures: int = 0

    def failed(self, error: Exception) -> None:
        """Note that it did not answer."""
        if self.failures == 0:
            self.log.warning("%s. Trying again, with growing pauses.", str(error).rstrip("."))
        self.failures += 1

    def answered(self) -> None:
        """Note that it answered."""
        if self.failures:
            self.log.info("It answers again, after %d failed tries.", self.failures)
        self.failures = 0

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        return min(self.interval * 2.0 ** min(self.failures, 10), max(self.interval, LONGEST_PAUSE))
