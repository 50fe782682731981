"""Judges what is seen of a connector over time: not yet, settled, restart it, refused, or failed for good."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from airflow_mlplatform.connectors.wish import fulfilled

if TYPE_CHECKING:
    from airflow_mlplatform.clients.kafka_connect_entities import Connector, ConnectorState

__all__ = ["Judgement", "Progress"]

Judgement = Literal["wait", "restart", "settled", "failed", "gone", "refused"]
Look = Literal["good", "failed", "missing", "moving", "refused"]

FIRST_PAUSE = 2.0
LONGEST_PAUSE = 60.0
# A worker that has just joined may not know yet what the others do.
MISSING_SECONDS = 20.0
# Right after a change the workers still tell of the failure before it.
FAILED_SECONDS = 10.0


@dataclass
class Progress:
    """What has been seen so far.

    Nothing is believed at once: right after a change the workers still tell of the tasks before it.

    :param state: the wished state.
    :param settle: seconds for which success has to last; failure after the last restart no more than ten.
    :param restarts: how often failed tasks are restarted, after 2, 4, 8 … seconds.
    """

    state: ConnectorState
    settle: float
    restarts: int
    restarted: int = field(default=0, init=False)
    _look: Look = field(default="moving", init=False)
    _since: float = field(default=0.0, init=False)

    def judge(self, connector: Connector | None, now: float) -> Judgement:
        """Return what to do after a look.

        :param connector: what was seen; ``None`` if there is no such connector.
        :param now: when, in seconds of any clock that only goes on.
        """
        look = self._seen(connector)
        if look != self._look:
            self._look, self._since = look, now
        lasted = now - self._since
        if look in ("good", "refused"):
            verdict: Judgement = "settled" if look == "good" else "refused"
            return verdict if lasted >= self.settle else "wait"
        if look == "missing":
            return "gone" if lasted >= MISSING_SECONDS else "wait"
        return self._about_failure(now) if look == "failed" else "wait"

    def _seen(self, connector: Connector | None) -> Look:
        if self.state == "absent":
            return "good" if connector is None else "moving"
        if connector is None:
            return "missing"
        if connector.status is not None and connector.status.state == "REFUSED":
            return "refused"
        if connector.status is not None and connector.status.failed:
            return "failed"
        return "good" if fulfilled(self.state, connector.status) else "moving"

    def _about_failure(self, now: float) -> Judgement:
        lasted = now - self._since
        if self.restarted < self.restarts:
            if lasted < min(FIRST_PAUSE * 2**self.restarted, LONGEST_PAUSE):
                return "wait"
            self.restarted += 1
            self._since = now
            return "restart"
        return "failed" if lasted >= min(self.settle, FAILED_SECONDS) else "wait"
