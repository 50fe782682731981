"""Several addresses of one service behind one HTTP client: what does not answer at one is asked at the next."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx

from airflow_mlplatform.exceptions import ConfigurationError

__all__ = ["AsyncFailover", "Failover"]

# What stands before a worker says "not here", which says nothing about the next one.
NOT_HERE = frozenset({502, 503, 504})
CUT_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass
class _Addresses:
    """Addresses in the order in which they are tried; the one that answered last comes first.

    :param urls: base URLs; requests come with the first one.
    """

    urls: tuple[httpx.URL, ...]
    _preferred: int = field(default=0, init=False)

    def aimed(self, request: httpx.Request) -> Iterator[tuple[int, httpx.Request]]:
        """Yield the request once an address."""
        for step in range(len(self.urls)):
            number = (self._preferred + step) % len(self.urls)
            yield number, self._at(self.urls[number], request)

    def answered(self, number: int) -> None:
        """Note who answers."""
        self._preferred = number

    def _at(self, url: httpx.URL, request: httpx.Request) -> httpx.Request:
        below = request.url.raw_path.removeprefix(self.urls[0].raw_path.rstrip(b"/"))
        target = url.copy_with(raw_path=url.raw_path.rstrip(b"/") + below)
        headers = request.headers.copy()
        headers["host"] = target.netloc.decode("ascii")
        return httpx.Request(
            request.method, target, headers=headers, stream=request.stream, extensions=request.extensions
        )


@dataclass
class _Failures:
    """What went wrong at each address; remembers the last answer, which is better than none."""

    reasons: list[str] = field(default_factory=list)
    distrust: list[bool] = field(default_factory=list)

    def add(self, request: httpx.Request, error: httpx.TransportError) -> None:
        """Note a failure, or raise it where the request may have been obeyed and must not be repeated."""
        self.reasons.append(f"{request.url.host}:{request.url.port or ''}: {error or type(error).__name__}")
        self.distrust.append(_is_distrust(error))
        if request.method == "POST" and not isinstance(error, NOT_SENT):
            raise error

    def error(self, request: httpx.Request) -> httpx.TransportError | ConfigurationError:
        """Return what to raise when no address has answered."""
        told = "; ".join(self.reasons)
        if all(self.distrust):
            return ConfigurationError(
                f"TLS fails: {told}; correct schema, verify (who signed the service's certificate), certificate or key "
                "in the connection"
            )
        return httpx.ConnectError(told, request=request)


def _is_elsewhere(response: httpx.Response) -> bool:
    """Whether the next address may know better. A worker that starts has only the pages of its bare web server."""
    page = response.headers.get("content-type", "").startswith("text/html")
    return response.status_code in NOT_HERE or (response.status_code == 404 and page)


def _is_distrust(error: BaseException | None) -> bool:
    """Whether TLS itself failed: a certificate that one side does not take, or no TLS at all."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return not isinstance(error, CUT_OFF)
        error = error.__cause__ or error.__context__
    return False


class Failover(httpx.BaseTransport):
    """Blocking transport over several addresses.

    :param urls: base URLs of the service; a client's ``base_url`` is the first.
    :param inner: the transport that does the work.
    """

    def __init__(self, urls: tuple[str, ...], inner: httpx.BaseTransport) -> None:
        self._addresses = _Addresses(tuple(map(httpx.URL, urls)))
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first address that takes it."""
        failures = _Failures()
        response: httpx.Response | None = None
        for number, aimed in self._addresses.aimed(request):
            try:
                answer = self._inner.handle_request(aimed)
            except httpx.TransportError as error:
                failures.add(aimed, error)
                continue
            if response is not None:
                response.close()
            response = answer
            if not _is_elsewhere(response):
                self._addresses.answered(number)
                return response
        if response is None:
            raise failures.error(request)
        return response

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


class AsyncFailover(httpx.AsyncBaseTransport):
    """Async transport over several addresses; parameters are those of :class:`Failover`."""

    def __init__(self, urls: tuple[str, ...], inner: httpx.AsyncBaseTransport) -> None:
        self._addresses = _Addresses(tuple(map(httpx.URL, urls)))
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first address that takes it."""
        failures = _Failures()
        response: httpx.Response | None = None
        for number, aimed in self._addresses.aimed(request):
            try:
                answer = await self._inner.handle_async_request(aimed)
            except httpx.TransportError as error:
                failures.add(aimed, error)
                continue
            if response is not None:
                await response.aclose()
            response = answer
            if not _is_elsewhere(response):
                self._addresses.answered(number)
                return response
        if response is None:
            raise failures.error(request)
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()
