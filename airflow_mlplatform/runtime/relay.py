"""The way of a request: from the front's stable address to whichever server takes it now."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from airflow_mlplatform.runtime.serving_files import CANDIDATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from starlette.types import Receive, Scope, Send

    from airflow_mlplatform.runtime.endpoint import Endpoint
    from airflow_mlplatform.runtime.fleet import Replica

__all__ = ["VERSION_HEADER", "Relay"]

VERSION_HEADER = "x-mlplatform-model-version"
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade expect host".split()
)
RETRY_AFTER = "2"
MOST_COPIES = 100
"""Copies on their way to shadows; a shadow that cannot keep up must not fill the memory."""
RawHeaders = list[tuple[bytes, bytes]]


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """Leave out the headers that are about one connection only."""
    pairs = [(name.lower(), value) for name, value in headers]
    named = {word.strip().lower() for name, value in pairs if name == b"connection" for word in value.split(b",")}
    return [(name, value) for name, value in pairs if name not in HOP_BY_HOP and name not in named]


class _Answer:
    """Sends an answer to the client, and knows whether it has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def begin(self, status: int, headers: RawHeaders) -> None:
        self.begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, chunk: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": more})


class Relay:
    """An ASGI app: ``/<endpoint>/<rest>`` goes to a server of that endpoint as ``/<rest>``, streaming both ways.

    :param endpoints: the endpoints by name; looked at anew for each request.
    """

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._copies: set[asyncio.Task[None]] = set()
        # A server that thinks long is not a dead one: its own limit (MLflow's request timeout) counts. Idle connections
        # are given up before uvicorn, on the other side, closes them after 5 s.
        self._client = httpx.AsyncClient(
            trust_env=False,
            timeout=httpx.Timeout(None, connect=5.0),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=2.0),
        )

    async def close(self) -> None:
        """Close the connections to the servers."""
        for copy in self._copies:
            copy.cancel()
        await asyncio.gather(*self._copies, return_exceptions=True)
        await self._client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        name = scope["path_params"]["endpoint"]
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            refusal = unknown_endpoint(name, self._endpoints)
        elif await self._relayed(endpoint, Request(scope, receive), _Answer(send)):
            return
        else:
            message = endpoint.status.message or "no model server is up"
            refusal = JSONResponse(
                {"error": f"endpoint {name!r} cannot answer now: {message.splitlines()[0]}"},
                status_code=503,
                headers={"retry-after": RETRY_AFTER},
            )
        await refusal(scope, receive, send)

    async def _relayed(self, endpoint: Endpoint, request: Request, answer: _Answer) -> bool:
        """Try one predictor after the other, first whose turn it is; ``False`` if no server could be reached."""
        count = endpoint.count if request.method == "POST" else _uncounted
        try:
            await self._copied(endpoint, request)
        except ClientDisconnect:
            return True
        for predictor in endpoint.order(prediction=request.method == "POST"):
            if await self._tried(endpoint, predictor, request, answer, partial(count, predictor)):
                return True
            count(predictor, 503, 0.0)
        return False

    async def _tried(
        self, endpoint: Endpoint, predictor: str, request: Request, answer: _Answer, count: Callable[[int, float], None]
    ) -> bool:
        """Try one server of a predictor after the other; ``False`` if none could be reached."""
        tried: list[Replica] = []
        while replica := endpoint.pick(predictor, tried):
            # No await between choosing and counting: a fleet never retires under a request.
            with replica.busy():
                began = time.monotonic()
                try:
                    count(await self._pass_on(request, replica, answer), time.monotonic() - began)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    tried.append(replica)
                    continue
                except ClientDisconnect:
                    pass
                except httpx.TransportError as error:
                    count(502, time.monotonic() - began)
                    await _broken(answer, replica, error)
                return True
        return False

    async def _pass_on(self, request: Request, replica: Replica, answer: _Answer) -> int:
        response = await self._client.send(_upstream_request(request, replica), stream=True)
        try:
            version = (VERSION_HEADER.encode(), replica.servers.model.version.encode())
            await answer.begin(response.status_code, [*end_to_end(response.headers.raw), version])
            async for chunk in response.aiter_raw():
                await answer.body(chunk, more=True)
            await answer.body(b"", more=False)
        finally:
            await response.aclose()
        return response.status_code

    async def _copied(self, endpoint: Endpoint, request: Request) -> None:
        """Send a copy to the shadow, if it is this request's turn; nobody waits for its answer."""
        if request.method != "POST" or not endpoint.copies():
            return
        await request.body()
        if len(self._copies) >= MOST_COPIES:
            endpoint.count(CANDIDATE, 503, 0.0)
            return
        copy = asyncio.create_task(self._copy(endpoint, request))
        self._copies.add(copy)
        copy.add_done_callback(self._copies.discard)

    async def _copy(self, endpoint: Endpoint, request: Request) -> None:
        replica = endpoint.pick(CANDIDATE, ())
        if replica is None:
            endpoint.count(CANDIDATE, 503, 0.0)
            return
        with replica.busy():
            began = time.monotonic()
            try:
                code = (await self._client.send(_upstream_request(request, replica))).status_code
            except httpx.TransportError:
                code = 502
            endpoint.count(CANDIDATE, code, time.monotonic() - began)


def _uncounted(predictor: str, code: int, seconds: float) -> None:
    """Only predictions are counted."""


def _upstream_request(request: Request, replica: Replica) -> httpx.Request:
    assert replica.server is not None
    raw_path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    rest = b"/" + raw_path.lstrip(b"/").partition(b"/")[2]
    query: bytes = request.scope["query_string"]
    url = httpx.URL(replica.server.url).copy_with(raw_path=rest + (b"?" + query if query else b""))
    has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
    # Made by hand: the client's own defaults (accept-encoding, user-agent) are not the caller's.
    return httpx.Request(
        request.method, url, headers=end_to_end(request.headers.raw), content=request.stream() if has_body else None
    )


async def _broken(answer: _Answer, replica: Replica, error: httpx.TransportError) -> None:
    if answer.begun:
        raise error
    message = f"the server of {replica.servers.model} broke off before it answered ({type(error).__name__}); ask again"
    body = JSONResponse({"error": message}, status_code=502)
    await answer.begin(502, body.raw_headers)
    await answer.body(bytes(body.body), more=False)


def unknown_endpoint(name: str, endpoints: Mapping[str, Endpoint]) -> JSONResponse:
    """Say that there is no such endpoint, and which there are."""
    there_are = ", ".join(sorted(endpoints)) or "none yet"
    return JSONResponse({"error": f"no endpoint {name!r}; there are: {there_are}"}, status_code=404)
