"""One endpoint of the front: follows its ``desired.json``, and never gives up what works for what may not."""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError, ServingFailed
from airflow_mlplatform.runtime.fleet import Fleet, Replica
from airflow_mlplatform.runtime.model_server import ModelUnfit
from airflow_mlplatform.runtime.serving_files import EndpointFiles, Status, Wish, locked, write

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_mlplatform.runtime.model_server import ServerCommand

__all__ = ["Endpoint"]

log = logging.getLogger(__name__)

POLL = 0.2
KEPT_LOGS = 10


class Endpoint:
    """Serves the last wish that came up.

    :param files: its files.
    :param command: tells how to serve a model folder.
    :param mark: environment variables that mark its processes as ours.
    """

    def __init__(self, files: EndpointFiles, command: ServerCommand, mark: Mapping[str, str]) -> None:
        self.files = files
        self.name = files.name
        self.status = self._reported()
        self._command, self._mark = command, mark
        self._fleet = self._former_front()
        self._retiring: set[asyncio.Task[None]] = set()

    def _new_fleet(self, wish: Wish) -> Fleet:
        return Fleet(wish, self.files.logs, self._command, self._mark)

    def _former_front(self) -> Fleet | None:
        """Take over what served before this front started."""
        if self.status.serving is None:
            return None
        fleet = self._new_fleet(self.status.serving)
        fleet.adopt(self.status.backends)
        return fleet

    def processes(self) -> set[int]:
        """Pids of the servers that take requests."""
        return {backend.process.pid for backend in self._fleet.backends()} if self._fleet else set()

    def pick(self, tried: Collection[Replica]) -> Replica | None:
        """Choose a server for a request; ``None`` if none is up."""
        return self._fleet.pick(tried) if self._fleet else None

    def _reported(self) -> Status:
        try:
            return self.files.status() or Status()
        except ConfigurationError as error:
            log.warning("starting from nothing: %s", error)
            return Status()

    async def run(self) -> None:
        """Follow the wishes until the endpoint is removed; then nothing of it is left.

        May be called again after an error.

        :raises ConfigurationError: if the wish's file is damaged; what serves goes on.
        """
        if self._fleet:
            self._fleet.keep(self._publish_backends)
        while wish := self.files.desired():
            if wish.generation != self.status.generation or self.status.phase == "progressing":
                await self._follow(wish)
            await asyncio.sleep(POLL)
        await self._remove()

    async def _follow(self, wish: Wish) -> None:
        if self._fleet and self._fleet.wish.fingerprint == wish.fingerprint:
            self._publish(generation=wish.generation, phase="ready", message="")
            return
        self._publish(generation=wish.generation, phase="progressing", message=f"starting {wish.model}", lasting=False)
        candidate = self._new_fleet(wish)
        try:
            if await self._comes_up(candidate):
                self._switch_to(candidate)
        except ServingFailed as error:
            self._publish(phase="failed", message=f"{wish.model}: {error}", lasting=isinstance(error, ModelUnfit))
        finally:
            if self._fleet is not candidate:
                await candidate.stop()

    async def _comes_up(self, candidate: Fleet) -> bool:
        """Wait for the candidate; ``False`` if meanwhile something else is wished."""
        starting = asyncio.create_task(candidate.start())
        try:
            while not starting.done():
                await asyncio.wait({starting}, timeout=POLL)
                wish = self.files.desired()
                if wish is None or wish.generation != candidate.wish.generation:
                    return False
            starting.result()
            return True
        finally:
            starting.cancel()

    def _switch_to(self, candidate: Fleet) -> None:
        former, self._fleet = self._fleet, candidate
        candidate.keep(self._publish_backends)
        if former:
            retiring = asyncio.create_task(former.retire())
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
        self._publish(
            phase="ready",
            message="",
            serving=candidate.wish,
            former_version=former.wish.model.version if former else None,
        )
        log.info("%s serves %s", self.name, candidate.wish.model)
        self._forget_old_logs()

    def _publish_backends(self) -> None:
        changes = {"message": self._fleet.trouble()} if self._fleet and self.status.phase == "ready" else {}
        try:
            self._publish(**changes)
        except OSError as error:
            # A full disk must not end the watch over the servers.
            log.warning("%s: cannot write its status: %s", self.name, error)

    def _publish(self, **changes: object) -> None:
        backends = self._fleet.backends() if self._fleet else ()
        self.status = self.status.model_copy(update={**changes, "backends": backends})
        write(self.files.status_path, self.status)

    def _forget_old_logs(self) -> None:
        logs = sorted(self.files.logs.glob("*.log"), key=lambda path: path.stat().st_mtime)
        for path in logs[:-KEPT_LOGS]:
            path.unlink(missing_ok=True)

    async def _remove(self) -> None:
        former, self._fleet = self._fleet, None
        if former:
            await former.retire()
        await asyncio.gather(*self._retiring)
        with locked(self.files.lock_path):
            if self.files.desired() is None:
                shutil.rmtree(self.files.folder, ignore_errors=True)
        self.status = Status()
        log.info("%s is removed", self.name)

    async def stop(self) -> None:
        """Stop all servers without forgetting what they served."""
        for retiring in self._retiring:
            retiring.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if self._fleet:
            await self._fleet.stop()
