"""The servers of one model: started together, kept alive, drained before they go."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ServingFailed
from airflow_mlplatform.runtime.model_server import ModelServer, ServerCommand, free_port
from airflow_mlplatform.runtime.serving_files import Backend, Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

__all__ = ["Fleet", "Replica"]

log = logging.getLogger(__name__)

POLL = 0.1
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
STABLE_AFTER = 60.0
MANY_DEATHS = 3


class Replica:
    """One server of a fleet, replaced by a new process whenever it dies.

    :param servers: what it serves.
    :param start: starts a new process.
    """

    def __init__(self, servers: Servers, start: Callable[[], ModelServer]) -> None:
        self.servers = servers
        self.up = False
        self.in_flight = 0
        self.server: ModelServer | None = None
        self.trouble = ""
        self.deaths = 0
        self._start = start

    def adopt(self, server: ModelServer) -> None:
        """Take over a server that runs already."""
        self.server, self.up = server, True

    async def bring_up(self) -> None:
        """Start a process and wait until it answers.

        :raises ServingFailed: if it does not.
        """
        self.server = self._start()
        await self.server.wait_ready(time.monotonic() + self.servers.ready_timeout)
        self.up, self.trouble = True, ""

    async def keep_up(self, changed: Callable[[], None]) -> None:
        """Replace the process whenever it dies, after a pause that grows; runs until cancelled.

        :param changed: called after every change of :attr:`up`.
        """
        pause = FIRST_PAUSE
        while True:
            came_up = time.monotonic()
            while self.up and self.server and self.server.alive():  # noqa: ASYNC110 - a process sends no event
                await asyncio.sleep(POLL)
            if time.monotonic() - came_up > STABLE_AFTER:
                pause, self.deaths = FIRST_PAUSE, 0
            self.deaths += 1
            if self.up:
                self.up, self.trouble = False, "the model server died while it served; starting it again"
                changed()
            await self.stop()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            try:
                await self.bring_up()
            except ServingFailed as error:
                self.trouble = str(error)
                log.warning("%s: %s", self.servers.model, error)
            changed()

    async def stop(self) -> None:
        """Stop the process, whatever is left of it."""
        self.up = False
        if self.server:
            await self.server.stop()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count a request, so that draining waits for its end."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1


class Fleet:
    """All servers of one model.

    :param servers: what they serve.
    :param logs: folder for their logs.
    :param command: tells how to serve a model folder.
    :param mark: environment variables that mark the processes as ours.
    """

    def __init__(self, servers: Servers, logs: Path, command: ServerCommand, mark: Mapping[str, str]) -> None:
        self.servers = servers
        self._logs, self._command, self._mark = logs, command, mark
        self.replicas = [Replica(servers, partial(self._launch, index)) for index in range(servers.replicas)]
        self._keepers: list[asyncio.Task[None]] = []
        self._turn = 0

    def _log(self, index: int) -> Path:
        return self._logs / f"{self.servers.fingerprint[:12]}-{index}.log"

    def _launch(self, index: int) -> ModelServer:
        port = free_port()
        invocation = self._command(self.servers.folder, port, self.servers.env_manager)
        return ModelServer.start(invocation, port, self._log(index), self._mark)

    def adopt(self, backends: Collection[Backend]) -> None:
        """Take over servers that a former front left running; :meth:`keep` starts those that are dead."""
        for index, (replica, backend) in enumerate(zip(self.replicas, backends, strict=False)):
            server = ModelServer(backend.process, backend.port, self._log(index))
            if server.alive():
                replica.adopt(server)

    async def start(self) -> None:
        """Start all servers and wait until all answer.

        :raises ServingFailed: if one does not; the others are left for :meth:`stop`.
        """
        await asyncio.gather(*(replica.bring_up() for replica in self.replicas))

    def keep(self, changed: Callable[[], None]) -> None:
        """From now on replace servers that die."""
        if not self._keepers:
            self._keepers = [asyncio.create_task(replica.keep_up(changed)) for replica in self.replicas]

    def pick(self, tried: Collection[Replica]) -> Replica | None:
        """Choose a server that is up, in turn, leaving out those tried before."""
        self._turn += 1
        for offset in range(len(self.replicas)):
            replica = self.replicas[(self._turn + offset) % len(self.replicas)]
            if replica.up and replica not in tried:
                return replica
        return None

    def backends(self) -> tuple[Backend, ...]:
        """Describe the servers that are up."""
        up = [replica.server for replica in self.replicas if replica.up and replica.server]
        fingerprint = self.servers.fingerprint
        return tuple(Backend(process=one.process, port=one.port, fingerprint=fingerprint) for one in up)

    def trouble(self) -> str:
        """What is wrong with the servers, if anything."""
        return "\n".join(dict.fromkeys(replica.trouble for replica in self.replicas if replica.trouble))

    @property
    def crashing(self) -> bool:
        """Whether a server has died again and again."""
        return any(replica.deaths >= MANY_DEATHS for replica in self.replicas)

    async def retire(self) -> None:
        """Let running requests end, for as long as is wished, then stop the servers."""
        deadline = time.monotonic() + self.servers.drain_timeout
        while self._busy() and time.monotonic() < deadline:  # noqa: ASYNC110 - simpler than an event for each replica
            await asyncio.sleep(POLL)
        await self.stop()

    def _busy(self) -> bool:
        return any(replica.in_flight for replica in self.replicas)

    async def stop(self) -> None:
        """Stop all servers."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(replica.stop() for replica in self.replicas))
