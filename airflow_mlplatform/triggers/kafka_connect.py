"""The waiting half of the operators and sensors of Kafka connectors."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlplatform.connectors.caught_up import Targets, lag, snapshot_done
from airflow_mlplatform.connectors.config import scrubbed, secret_values
from airflow_mlplatform.connectors.progress import Judgement, Progress
from airflow_mlplatform.connectors.strimzi import StrimziCluster
from airflow_mlplatform.connectors.waiting import ConnectorEvent, ConnectorWait, StatusFacts
from airflow_mlplatform.connectors.wish import fulfilled
from airflow_mlplatform.exceptions import ConfigurationError, ServiceError, ServiceRefused
from airflow_mlplatform.metrics import CONNECTOR_RESTARTS, CONNECTOR_WAITS
from airflow_mlplatform.triggers.connector_metrics import report
from airflow_mlplatform.triggers.kafka_connect_watch import ConnectWatch, watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_mlplatform.clients.kafka_connect_entities import Connector, ConnectorStatus

__all__ = ["KafkaConnectorTrigger"]

LONGEST_TRACE = 8000
# Strimzi looks at Kafka Connect every two minutes, and within a second when something about the resource changes.
REFRESH = 3.0
LATE = 1.0


class KafkaConnectorTrigger(BaseTrigger):
    """Waits until a connector is as wished; restarts its failed tasks meanwhile.

    :param wait: what is waited for, as JSON of :class:`ConnectorWait`.
    :param deadline: when to give up, in seconds since 1970.
    :param kafka_connect_conn_id: Airflow connection of the Connect cluster.
    :param strimzi: the cluster of Strimzi that is asked instead, as JSON of ``StrimziCluster``.
    """

    def __init__(
        self,
        wait: dict[str, Any],
        deadline: float,
        kafka_connect_conn_id: str = "",
        strimzi: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.wait = wait
        self.deadline = deadline
        self.kafka_connect_conn_id = kafka_connect_conn_id
        self.strimzi = strimzi
        self._seen: Connector | None = None
        self._doing = ""
        self._confirmed = False
        self._refreshed_at = 0.0

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        arguments = ("wait", "deadline", "kafka_connect_conn_id", "strimzi")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in arguments}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event, when the wait is over."""
        try:
            wait = ConnectorWait.model_validate(self.wait)
            left = self.deadline - datetime.now(UTC).timestamp()
            async with asyncio.timeout(max(left, 0.0)), watching(self._place()) as watch:
                event = await self._wait(wait, watch)
        except TimeoutError:
            event = self._too_late()
        except (ConfigurationError, ServiceRefused) as error:
            event = ConnectorEvent(ending="mistake", message=str(error))
        CONNECTOR_WAITS.add(connector=str(self.wait.get("name")), ending=event.ending)
        yield TriggerEvent(event.model_dump(mode="json"))

    def _place(self) -> str | StrimziCluster:
        return StrimziCluster(**self.strimzi) if self.strimzi else self.kafka_connect_conn_id

    def _too_late(self) -> ConnectorEvent:
        if self._doing and self._seen and fulfilled(self.wait["state"], self._seen.status):
            return self._event("behind", "it runs, but has not caught up in time")
        return self._event("timeout", f"it was not {self.wait['state']}, with all its tasks, in time")

    async def _wait(self, wait: ConnectorWait, watch: ConnectWatch) -> ConnectorEvent:
        progress = Progress(wait.state, wait.settle, wait.restarts)
        clock = asyncio.get_running_loop().time
        asked_after = clock()
        while True:
            connectors = await watch.look(asked_after)
            self._notice(connectors.get(wait.name))
            judgement = progress.judge(self._seen, clock())
            if watch.late and self._seen and await self._refreshed(watch, judgement, clock()):
                asked_after = clock() + LATE
                continue
            if judgement == "settled" and (not wait.caught_up or await self._caught_up(wait, watch)):
                return self._event("done", "")
            if judgement == "restart":
                await self._restart(wait, watch, progress)
            elif judgement == "refused" and not wait.patient:
                return self._event("mistake", "Strimzi does not hand it on to Kafka Connect")
            elif judgement in ("failed", "gone") and not wait.patient:
                return self._event("failed", "somebody has removed it" if judgement == "gone" else _failure(progress))

    async def _refreshed(self, watch: ConnectWatch, judgement: Judgement, now: float) -> bool:
        """Ask for news before a verdict, and from time to time before; return whether it was asked."""
        verdict = judgement in ("settled", "failed", "refused")
        if judgement == "restart" or (verdict == self._confirmed and (verdict or now - self._refreshed_at < REFRESH)):
            return False
        self._confirmed, self._refreshed_at = verdict, now
        try:
            await watch.refresh(self.wait["name"])
        except ServiceError as error:
            self.log.warning("%s: %s", self.wait["name"], error)
        return True

    def _notice(self, connector: Connector | None) -> None:
        status = connector.status if connector else None
        former = self._seen.status if self._seen else None
        if str(status) != str(former):
            self.log.info("%s: %s", self.wait["name"], status or "there is none")
            report(self.wait["name"], status, former)
        self._seen = connector

    async def _restart(self, wait: ConnectorWait, watch: ConnectWatch, progress: Progress) -> None:
        self.log.warning("%s: restarting what has failed, %d of %d", wait.name, progress.restarted, wait.restarts)
        CONNECTOR_RESTARTS.add(connector=wait.name)
        try:
            await watch.restart(wait.name)
        except ServiceError as error:
            self.log.warning("%s: %s", wait.name, error)

    async def _caught_up(self, wait: ConnectorWait, watch: ConnectWatch) -> bool:
        try:
            offsets = await watch.offsets(wait.name)
        except ServiceError as error:
            self.log.warning("%s: how far it is, is not known: %s", wait.name, error)
            return False
        done, doing = _look_at(offsets, wait.targets)
        if doing != self._doing:
            self.log.info("%s: %s", wait.name, doing)
        self._doing = doing
        return done

    def _event(self, ending: Literal["done", "failed", "timeout", "behind", "mistake"], what: str) -> ConnectorEvent:
        if ending == "done":
            return ConnectorEvent(ending=ending, status=StatusFacts.of(self._seen.status if self._seen else None))
        status = self._seen.status if self._seen else None
        lines = [what, str(status) if status else "the workers tell nothing of it", self._doing, *_traces(status)]
        declared = self.wait.get("secret_keys", ())
        secrets = secret_values(self._seen.config, declared) if self._seen else frozenset()
        message = scrubbed("\n".join(filter(None, lines)), secrets)
        return ConnectorEvent(ending=ending, message=message, status=StatusFacts.of(status))


def _failure(progress: Progress) -> str:
    tried = f", after {progress.restarted} restarts" if progress.restarted else ""
    return f"it or one of its tasks has failed{tried}"


def _traces(status: ConnectorStatus | None) -> list[str]:
    """Return the traces that differ: tasks of one connector mostly fail of one reason."""
    return [trace[:LONGEST_TRACE].strip() for trace in dict.fromkeys(status.traces)] if status else []


def _look_at(offsets: list[dict[str, Any]], targets: Targets | None) -> tuple[bool, str]:
    if targets is not None:
        missing = lag(targets, offsets)
        return missing == 0, f"it is {missing} records behind"
    if offsets:
        return snapshot_done(offsets), "its snapshot goes on"
    return False, (
        "it has noted no offset yet; where its tables are empty it never does, unless heartbeat.interval.ms is set"
    )
