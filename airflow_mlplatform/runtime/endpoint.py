"""One endpoint of the front: follows its ``desired.json``, and never gives up what works for what may not."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError, ServingFailed
from airflow_mlplatform.runtime.fleet import Fleet, Replica
from airflow_mlplatform.runtime.model_server import ModelUnfit
from airflow_mlplatform.runtime.serving_files import (
    CANDIDATE,
    MAIN,
    EndpointFiles,
    Servers,
    Status,
    Wish,
    locked,
    read,
    write,
)
from airflow_mlplatform.runtime.share import Share
from airflow_mlplatform.runtime.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_mlplatform.runtime.model_server import ServerCommand
    from airflow_mlplatform.runtime.serving_files import Candidate

__all__ = ["Endpoint"]

log = logging.getLogger(__name__)

POLL = 0.2
SAVE_EVERY = 1.0
KEPT_LOGS = 10
Fleets = dict[str, Fleet]


class Endpoint:
    """Serves the last wish that came up.

    :param files: its files.
    :param command: tells how to serve a model folder.
    :param mark: environment variables that mark its processes as ours.
    :ivar traffic: the requests since the front started.
    """

    def __init__(self, files: EndpointFiles, command: ServerCommand, mark: Mapping[str, str]) -> None:
        self.files = files
        self.name = files.name
        self.status = self._reported()
        self.traffic = Traffic()
        self._command, self._mark = command, mark
        self._fleets = self._former_front()
        self._window = self._former_window()
        self._saved = time.monotonic()
        self._shares = self._dealt()
        self._retiring: set[asyncio.Task[None]] = set()

    def _former_front(self) -> Fleets:
        """Take over what served before this front started."""
        fleets: Fleets = {}
        for servers in self._serving.values():
            fleet = fleets[servers.fingerprint] = Fleet(servers, self.files.logs, self._command, self._mark)
            fleet.adopt([one for one in self.status.backends if one.fingerprint in ("", servers.fingerprint)])
        return fleets

    def _former_window(self) -> Traffic:
        division = self.status.serving.division if self.status.serving else ""
        try:
            found = read(self.files.traffic_path, Traffic)
        except ConfigurationError as error:
            log.warning("counting from nothing: %s", error)
            found = None
        return found if found and found.division == division else Traffic(division=division)

    @property
    def _serving(self) -> Mapping[str, Servers]:
        return self.status.serving.predictors if self.status.serving else {}

    def processes(self) -> set[int]:
        """Pids of the servers that take requests."""
        return {backend.process.pid for fleet in self._fleets.values() for backend in fleet.backends()}

    def order(self, *, prediction: bool) -> list[str]:
        """Return the predictors in the order in which a request tries them: first whose turn it is.

        :param prediction: whether it is one of those that are counted; pages and pings must not take their turns.
        """
        if self._candidate is None or self._candidate.shadow:
            return [MAIN]
        return [CANDIDATE, MAIN] if self._shares[prediction].turn() else [MAIN, CANDIDATE]

    def copies(self) -> bool:
        """Whether this prediction is one of those that a shadow gets a copy of."""
        return self._candidate is not None and self._candidate.shadow and self._shares[True].turn()

    @property
    def _candidate(self) -> Candidate | None:
        return self.status.serving.candidate if self.status.serving else None

    def _dealt(self) -> dict[bool, Share]:
        weight = self._candidate.weight if self._candidate else 0
        return {True: Share(weight), False: Share(weight)}

    def pick(self, predictor: str, tried: Collection[Replica]) -> Replica | None:
        """Choose a server for a request; ``None`` if none is up."""
        servers = self._serving.get(predictor)
        fleet = self._fleets.get(servers.fingerprint) if servers else None
        return fleet.pick(tried) if fleet else None

    def count(self, predictor: str, code: int, seconds: float) -> None:
        """Count a request that was answered, or could not be."""
        for traffic in (self.traffic, self._window):
            traffic.count(predictor, code, seconds)

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
        for fleet in self._fleets.values():
            fleet.keep(self._publish_backends)
        while wish := self.files.desired():
            if wish.generation != self.status.generation or self.status.phase == "progressing":
                await self._follow(wish)
            self._save_traffic()
            await asyncio.sleep(POLL)
        await self._remove()

    async def _follow(self, wish: Wish) -> None:
        missing = {
            servers.fingerprint: Fleet(servers, self.files.logs, self._command, self._mark)
            for servers in wish.predictors.values()
            if servers.fingerprint not in self._fleets
        }
        if not missing:
            self._switch_to(wish, {})
            return
        starting = " and ".join(str(fleet.servers.model) for fleet in missing.values())
        self._publish(generation=wish.generation, phase="progressing", message=f"starting {starting}", lasting=False)
        try:
            if await self._come_up(wish, missing):
                self._switch_to(wish, missing)
        except ServingFailed as error:
            self._publish(phase="failed", message=f"{starting}: {error}", lasting=isinstance(error, ModelUnfit))
        finally:
            unused = [fleet for key, fleet in missing.items() if self._fleets.get(key) is not fleet]
            await asyncio.gather(*(fleet.stop() for fleet in unused))

    async def _come_up(self, wish: Wish, fleets: Fleets) -> bool:
        """Wait for new servers; ``False`` if meanwhile something else is wished."""
        starting = asyncio.gather(*(fleet.start() for fleet in fleets.values()))
        try:
            while not starting.done():
                await asyncio.wait({starting}, timeout=POLL)
                self._save_traffic()
                now = self.files.desired()
                if now is None or now.generation != wish.generation:
                    return False
            starting.result()
            return True
        finally:
            starting.cancel()

    def _switch_to(self, wish: Wish, new: Fleets) -> None:
        former, serving = self._fleets, self.status.serving
        there = former | new
        self._fleets = {one.fingerprint: there[one.fingerprint] for one in wish.predictors.values()}
        for fleet in new.values():
            fleet.keep(self._publish_backends)
        for key in former.keys() - self._fleets.keys():
            retiring = asyncio.create_task(former[key].retire())
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
        divided = self._window.division != wish.division
        if divided:
            self._window = Traffic(division=wish.division)
        followed = serving is not None and serving.fingerprint != wish.fingerprint
        changes = {"former_version": serving.model.version} if serving and followed else {}
        self._publish(generation=wish.generation, phase="ready", message="", lasting=False, serving=wish, **changes)
        if divided or serving is None:
            self._shares = self._dealt()
            log.info("%s serves %s", self.name, _shown(wish))
        self._forget_old_logs()

    def _publish_backends(self) -> None:
        trouble = "\n".join(self._down().values())
        try:
            self._publish(**({"message": trouble} if self.status.phase == "ready" else {}))
        except OSError as error:
            # A full disk must not end the watch over the servers.
            log.warning("%s: cannot write its status: %s", self.name, error)

    def _down(self) -> dict[str, str]:
        return {name: fleet.trouble() for name, fleet in self._by_predictor().items() if fleet.trouble()}

    def _by_predictor(self) -> Fleets:
        found = {name: self._fleets.get(servers.fingerprint) for name, servers in self._serving.items()}
        return {name: fleet for name, fleet in found.items() if fleet}

    def _publish(self, **changes: object) -> None:
        self.status = self.status.model_copy(update=changes)
        known = {
            "backends": tuple(backend for fleet in self._fleets.values() for backend in fleet.backends()),
            "down": self._down(),
            "crashing": tuple(name for name, fleet in self._by_predictor().items() if fleet.crashing),
        }
        self.status = self.status.model_copy(update=known)
        write(self.files.status_path, self.status)

    def _save_traffic(self) -> None:
        """Keep what a rollout is judged by, for whoever judges and for the next front."""
        now = time.monotonic()
        if self.status.serving is None or self.status.serving.candidate is None or now < self._saved + SAVE_EVERY:
            return
        self._saved = now
        try:
            write(self.files.traffic_path, self._window)
        except OSError as error:
            log.warning("%s: cannot write its traffic: %s", self.name, error)

    def _forget_old_logs(self) -> None:
        logs = sorted(self.files.logs.glob("*.log"), key=lambda path: path.stat().st_mtime)
        for path in logs[:-KEPT_LOGS]:
            path.unlink(missing_ok=True)

    async def _remove(self) -> None:
        # Nothing is sent to them any more, but stop() still finds them.
        self.status = self.status.model_copy(update={"serving": None})
        await asyncio.gather(*(fleet.retire() for fleet in self._fleets.values()), *self._retiring)
        self._fleets = {}
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
        await asyncio.gather(*(fleet.stop() for fleet in self._fleets.values()))


def _shown(wish: Wish) -> str:
    candidate = wish.candidate
    if candidate is None:
        return str(wish.model)
    what = "copies" if candidate.shadow else "of the requests"
    return f"{wish.model}, and {candidate.model} with {candidate.weight} % {what}"
