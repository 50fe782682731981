"""The front: one process a machine that owns the stable address, passes requests on and looks after the model servers.

Run by :class:`~airflow_mlplatform.runtime.serving.LocalServing`, or by hand (systemd, a container)::

    python -m airflow_mlplatform.runtime.front STATE_DIR --address 127.0.0.1:8090

It takes its orders from files (:mod:`~airflow_mlplatform.runtime.serving_files`), so whoever may write the state folder
deploys, and the address only answers questions. SIGTERM stops it and all model servers; if it is killed, the servers
live on and the next front adopts them.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from airflow_mlplatform.runtime.endpoint import Endpoint
from airflow_mlplatform.runtime.front_pages import Pages
from airflow_mlplatform.runtime.local import Identity
from airflow_mlplatform.runtime.model_server import ServerCommand, mlflow_scoring
from airflow_mlplatform.runtime.processes import stop_group
from airflow_mlplatform.runtime.relay import Relay
from airflow_mlplatform.runtime.serving_files import FrontRecord, write
from airflow_mlplatform.runtime.serving_folder import ServingFolder, listen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

__all__ = ["Front", "application", "main"]

log = logging.getLogger(__name__)

POLL = 0.2
PAUSE_AFTER_ERROR = 5.0
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Front:
    """All endpoints of this machine.

    :param folder: the serving folder.
    :param command: tells how to serve a model folder.
    """

    def __init__(self, folder: ServingFolder, command: ServerCommand) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self._folder, self._command = folder, command
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Look after the endpoints that the folder holds, until cancelled, or until somebody deletes the folder."""
        self._take_in_new()
        await self._stop_orphans()
        while self._folder.path.exists():
            try:
                self._take_in_new()
            except OSError as error:
                log.warning("cannot look for new endpoints: %s", error)
            for name in list(self.endpoints):
                self._look_after(name)
            await asyncio.sleep(POLL)
        log.warning("%s is gone, so nobody can give orders any more: stopping", self._folder.path)

    def _take_in_new(self) -> None:
        for files in self._folder.endpoints():
            if files.name not in self.endpoints:
                self.endpoints[files.name] = Endpoint(files, self._command, self._folder.mark(files.name))

    def _look_after(self, name: str) -> None:
        task = self._tasks.get(name)
        if task is None:
            self._tasks[name] = asyncio.create_task(self.endpoints[name].run())
        elif task.done() and (error := task.exception()):
            # What one endpoint suffers must not cost the others anything, nor itself what serves.
            log.error("%s: going on in %g s after an error", name, PAUSE_AFTER_ERROR, exc_info=error)
            self._tasks[name] = asyncio.create_task(self._run_later(self.endpoints[name]))
        elif task.done():
            del self._tasks[name], self.endpoints[name]

    async def _run_later(self, endpoint: Endpoint) -> None:
        await asyncio.sleep(PAUSE_AFTER_ERROR)
        await endpoint.run()

    async def _stop_orphans(self) -> None:
        """Stop servers that nobody will ever send a request to: a former front was killed while it switched."""
        adopted = set().union(*(endpoint.processes() for endpoint in self.endpoints.values()))
        for group in self._folder.server_groups() - adopted:
            log.warning("stopping the model server %s that a former front left behind", group)
            await asyncio.to_thread(stop_group, group)

    async def stop(self) -> None:
        """Stop all model servers."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.gather(*(endpoint.stop() for endpoint in self.endpoints.values()))


def application(front: Front, address: str) -> Starlette:
    """Build the front's ASGI app.

    :param address: ``host:port``, for the pages.
    """
    relay, pages = Relay(front.endpoints), Pages(front.endpoints, address)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        stopping = False
        running = asyncio.create_task(front.run())
        # An address that answers while nobody looks after the servers would be worse than none.
        running.add_done_callback(lambda _: os.kill(os.getpid(), signal.SIGTERM) if not stopping else None)
        yield
        stopping = True
        running.cancel()
        (error,) = await asyncio.gather(running, return_exceptions=True)
        if isinstance(error, Exception):
            log.error("the front ends after an unexpected error", exc_info=error)
        await front.stop()
        await relay.close()

    routes = [
        Route("/", pages.overview),
        Route("/-/health", pages.health),
        Route("/-/metrics", pages.metrics),
        Route("/{endpoint}", pages.endpoint),
        Route("/{endpoint}/", pages.endpoint),
        Route("/{endpoint}/{rest:path}", relay, methods=METHODS),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def main(argv: Sequence[str] | None = None, command: ServerCommand = mlflow_scoring) -> None:
    """Run the front until it is told to stop."""
    parser = argparse.ArgumentParser(description="Serve models on a stable address of this machine.")
    parser.add_argument("state_dir", type=Path, help="folder with the endpoints' files")
    parser.add_argument("--address", default="127.0.0.1:8090", help="host:port to listen on (default: %(default)s)")
    parser.add_argument("--socket", type=int, help="inherited socket that listens there already")
    parser.add_argument("--lock", type=int, help="inherited file that holds the lock of the only front")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # Every poll of a starting server is not news.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder = ServingFolder(options.state_dir)
    lock = options.lock if options.lock is not None else folder.lock_front()
    if lock is None:
        parser.error(f"another front serves {folder.path} already")
    listener = listen(options.address) if options.socket is None else socket.socket(fileno=options.socket)
    write(folder.front_path, FrontRecord(process=Identity.own(), address=options.address))
    app = application(Front(folder, command), options.address)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=5,
        ws="none",
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
