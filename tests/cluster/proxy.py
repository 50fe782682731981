"""Proxies between the parts of the platform, which a test tells to refuse, to hang or to answer 503 for a while."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from typing import Any, Self

__all__ = ["Fault", "Proxies", "Proxy"]

Fault = Literal["refuse", "hang", "unavailable"]
CHUNK = 65536
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Proxy:
    """One way to one service. Clients speak plainly; what goes on may be encrypted.

    :param target: host and port of the service.
    :param tls: how to speak to the service if it wants TLS.
    """

    target: tuple[str, int]
    tls: ssl.SSLContext | None
    loop: asyncio.AbstractEventLoop
    port: int = 0
    fault: Fault | None = None
    connections: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _handlers: set[asyncio.Task[None]] = field(default_factory=set)
    _healthy: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def broken(self, fault: Fault, seconds: float = 0.0) -> Iterator[None]:
        """Let the service be away: connections that are open break, new ones meet the fault.

        :param seconds: how long, at least.
        """
        self.break_down(fault)
        until = time.monotonic() + seconds
        try:
            yield
            time.sleep(max(0.0, until - time.monotonic()))
        finally:
            self.mend()

    def break_down(self, fault: Fault) -> None:
        """Begin a fault.

        :param fault: ``refuse`` (nobody listens), ``hang`` (no answer ever) or ``unavailable`` (503 to every request).
        """
        self._run(self._break_down(fault))

    def mend(self) -> None:
        """End the fault; connections that hung are closed."""
        self._run(self._mend())

    def cut(self) -> None:
        """Break the connections that are open; new ones work."""
        self._run(self._drop())

    def close(self) -> None:
        """Stop listening and close what is open."""
        self._run(self._break_down("refuse"))

    async def listen(self) -> None:
        """Listen, on the same port as before."""
        self._healthy.set()
        self._server = await asyncio.start_server(self._serve, "0.0.0.0", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    async def _break_down(self, fault: Fault) -> None:
        self.fault = fault
        self._healthy.clear()
        if fault == "refuse" and self._server:
            self._server.close()
            self._server = None
        await self._drop()

    async def _mend(self) -> None:
        self.fault = None
        await self._drop()
        if self._server is None:
            await self.listen()
        self._healthy.set()

    async def _drop(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()
        handlers = list(self._handlers)
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        self._open.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            self._handlers.discard(handler)
            self._open.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault == "hang":
            await self._healthy.wait()
        elif self.fault == "unavailable":
            await reader.readuntil(b"\r\n\r\n")
            writer.write(UNAVAILABLE)
            await writer.drain()
        elif self.fault is None:
            await self._forward(reader, writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self.target, ssl=self.tls)
        try:
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        finally:
            there_writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(CHUNK):
            sink.write(data)
            await sink.drain()
    finally:
        # The other direction ends too: HTTP has no use for half a connection.
        sink.close()


class Proxies:
    """All proxies of a test session, in a thread of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._proxies: list[Proxy] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for proxy in self._proxies:
            proxy.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def to(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> Proxy:
        """Open a way to a service, on a port of its own, on all addresses of this machine."""

        async def opened() -> Proxy:
            proxy = Proxy((host, port), tls, self._loop)
            await proxy.listen()
            return proxy

        proxy = asyncio.run_coroutine_threadsafe(opened(), self._loop).result(30)
        self._proxies.append(proxy)
        return proxy
