"""One poll of a Connect cluster serves all triggers of this process that wait for its connectors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from airflow_mlplatform.exceptions import MlplatformError, ServiceUnavailable
from airflow_mlplatform.hooks.kafka_connect import KafkaConnectHook
from airflow_mlplatform.triggers.outages import Outages

if TYPE_CHECKING:
    from airflow_mlplatform.clients.kafka_connect import Connector
    from airflow_mlplatform.connectors.strimzi import StrimziCluster

__all__ = ["ConnectWatch", "watching"]

log = logging.getLogger(__name__)

Seen = Mapping[str, "Connector"]

INTERVAL = 1.0
# A list of a thousand connectors takes its time; the workers have other things to do.
SHARE = 4.0
SPACING = 0.25
"""Seconds between two requests about single connectors, whoever asks."""


class Asked(Protocol):
    """Who tells of connectors.

    ``late``: whether what he tells may be old, so that he has to be asked to look again.
    """

    late: bool

    async def list_connectors(self) -> Seen:
        """Return all connectors by name."""

    async def restart(self, name: str) -> None:
        """Restart what has failed of a connector."""

    async def refresh(self, name: str) -> None:
        """Look again."""

    async def get_offsets(self, name: str) -> list[dict[str, Any]]:
        """Return how far a connector is."""


class ConnectWatch:
    """What one Connect cluster says of its connectors, again and again.

    :param place: whom to ask.
    """

    def __init__(self, place: str | StrimziCluster) -> None:
        self.place = place
        self.users = 0
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.Future[tuple[float, Seen]] = self._loop.create_future()
        self._turn = asyncio.Lock()
        self._client: Asked | None = None
        self._task = asyncio.create_task(self._poll(), name=f"watch {place}")

    async def look(self, asked_after: float) -> Seen:
        """Return all connectors by name, as the next poll sees them.

        :param asked_after: time of the event loop; an answer to an earlier question is not taken.
        :raises MlplatformError: if the cluster cannot be asked, now or ever; outages are borne.
        """
        while True:
            asked, seen = await asyncio.shield(self._next)
            if asked >= asked_after:
                return seen

    async def restart(self, name: str) -> None:
        """Restart what has failed of a connector.

        :raises ServiceUnavailable: if no worker does it now.
        """
        async with self._in_turn() as client:
            await client.restart(name)

    async def offsets(self, name: str) -> list[dict[str, Any]]:
        """Return how far a connector is.

        :raises ServiceUnavailable: if no worker tells now.
        """
        async with self._in_turn() as client:
            return await client.get_offsets(name)

    @property
    def late(self) -> bool:
        """Whether what is told may be old."""
        return self._client is not None and self._client.late

    async def refresh(self, name: str) -> None:
        """Ask to look at a connector again.

        :raises ServiceUnavailable: if that cannot be asked now.
        """
        async with self._in_turn() as client:
            await client.refresh(name)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[Asked]:
        async with self._turn:
            await asyncio.sleep(SPACING)
        if self._client is None:
            raise ServiceUnavailable(f"Kafka Connect ({self.place}) has not answered yet")
        yield self._client

    async def _poll(self) -> None:
        outages = Outages(INTERVAL, log)
        try:
            async with _opened(self.place) as self._client:
                while True:
                    asked = self._loop.time()
                    await self._ask(outages, asked)
                    await asyncio.sleep(max(outages.pause, SHARE * (self._loop.time() - asked)))
        except MlplatformError as error:
            _forget(self)
            self._next.set_exception(error)
            # Whoever waits gets it; with nobody there, it is no news.
            self._next.exception()

    async def _ask(self, outages: Outages, asked: float) -> None:
        assert self._client is not None
        try:
            seen = await self._client.list_connectors()
        except ServiceUnavailable as error:
            outages.failed(error)
            return
        outages.answered()
        former, self._next = self._next, self._loop.create_future()
        former.set_result((asked, seen))

    async def close(self) -> None:
        """Stop polling."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def _opened(place: str | StrimziCluster) -> AsyncIterator[Asked]:
    if isinstance(place, str):
        async with await KafkaConnectHook(place).async_client() as client:
            yield client
    else:
        from airflow_mlplatform.hooks.strimzi import AsyncStrimziConnectors

        async with AsyncStrimziConnectors.opened(place) as connectors:
            yield connectors


_watches: dict[tuple[int, str | StrimziCluster], ConnectWatch] = {}


@asynccontextmanager
async def watching(place: str | StrimziCluster) -> AsyncIterator[ConnectWatch]:
    """Share the watch of a Connect cluster; the first one starts it, the last one ends it.

    :param place: whom to ask: the Airflow connection of a Connect cluster, or a cluster of Strimzi.
    """
    key = (id(asyncio.get_running_loop()), place)
    watch = _watches.get(key)
    if watch is None:
        watch = _watches[key] = ConnectWatch(place)
    watch.users += 1
    try:
        yield watch
    finally:
        watch.users -= 1
        if watch.users == 0:
            _forget(watch)
            await watch.close()


def _forget(watch: ConnectWatch) -> None:
    for key in [key for key, one in _watches.items() if one is watch]:
        del _watches[key]
