"""What every HTTP client here shares: an operation is written once and driven by a blocking or an async transport.

An operation is a generator: it yields a :class:`Request`, is sent the :class:`httpx.Response`, and returns its result.
Paging and get-or-create are therefore written once, without a single ``await``.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from urllib.parse import urlsplit

import httpx

from airflow_mlplatform.exceptions import ConfigurationError, ServiceRefused, ServiceUnavailable

__all__ = [
    "AsyncClient",
    "BlockingClient",
    "Endpoint",
    "Operation",
    "Request",
    "awaitable",
    "blocking",
    "drive",
    "drive_async",
    "unavailable",
]

T = TypeVar("T")
P = ParamSpec("P")

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
NOT_NOW = frozenset({408, 425, 429})


@dataclass(frozen=True)
class Request:
    """One HTTP request, without an address.

    :param method: HTTP method.
    :param path: path below the base URL, with its slash.
    :param params: query parameters; a sequence repeats its name.
    :param json: body, sent as JSON; ``None`` for no body.
    """

    method: str
    path: str
    params: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None


Operation = Generator[Request, httpx.Response, T]


@dataclass(frozen=True)
class Endpoint:
    """Where a service answers and how we show who we are. Secrets stay out of its ``repr``.

    :param url: base URL; a path is kept, a slash at the end is not.
    :param login: user name for basic authentication.
    :param password: password for basic authentication.
    :param token: bearer token; it wins over login and password.
    :param verify: check TLS certificates; or the path of a CA bundle.
    :raises ConfigurationError: if the URL is none.
    """

    url: str
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    verify: bool | str = True

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            usable = False
        if not usable:
            raise ConfigurationError(
                f"{self.url!r} is no address of a service; write http:// or https://, the host, and the port if any"
            )

    def options(self) -> dict[str, Any]:
        """Return keyword arguments for :class:`httpx.Client` and :class:`httpx.AsyncClient`."""
        import ssl

        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        auth = (self.login, self.password or "") if self.login and not self.token else None
        verify = ssl.create_default_context(cafile=self.verify) if isinstance(self.verify, str) else self.verify
        base = self.url.rstrip("/")
        return {"base_url": base, "headers": headers, "auth": auth, "verify": verify, "timeout": TIMEOUT}


def unavailable(response: httpx.Response) -> bool:
    """Whether a status means "not now" rather than "no"."""
    return response.status_code >= 500 or response.status_code in NOT_NOW


@contextmanager
def _outages_named(client: httpx.Client | httpx.AsyncClient) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        why = str(error) or type(error).__name__
        raise ServiceUnavailable(
            f"{client.base_url} does not answer: {why}; see that the service runs and that the address is right"
        ) from error
    except (httpx.InvalidURL, httpx.DecodingError) as error:
        raise ServiceRefused(f"{client.base_url}: {error}; correct the address in the connection") from error


def _build(client: httpx.Client | httpx.AsyncClient, request: Request) -> httpx.Request:
    return client.build_request(request.method, request.path, params=dict(request.params), json=request.json)


def drive(operation: Operation[T], client: httpx.Client) -> T:
    """Run an operation over a blocking client.

    :raises ServiceUnavailable: if the service cannot be reached.
    """
    try:
        request = next(operation)
        while True:
            with _outages_named(client):
                response = client.send(_build(client, request))
            request = operation.send(response)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


async def drive_async(operation: Operation[T], client: httpx.AsyncClient) -> T:
    """Run an operation over an async client.

    :raises ServiceUnavailable: if the service cannot be reached.
    """
    try:
        request = next(operation)
        while True:
            with _outages_named(client):
                response = await client.send(_build(client, request))
            request = operation.send(response)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


class BlockingClient:
    """Base of blocking clients: a context manager that closes its connections.

    :param endpoint: where the service answers; its secrets do not show in its ``repr``.
    :param http: the transport.
    """

    def __init__(self, endpoint: object, http: httpx.Client) -> None:
        self.http = http
        self._shown = endpoint

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.http.close()


class AsyncClient:
    """Base of async clients: an async context manager; arguments as for :class:`BlockingClient`."""

    def __init__(self, endpoint: object, http: httpx.AsyncClient) -> None:
        self.http = http
        self._shown = endpoint

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()


def blocking(operation: Callable[P, Operation[T]]) -> Callable[Concatenate[BlockingClient, P], T]:
    """Make a method of a blocking client from an operation."""

    @wraps(operation)
    def method(self: BlockingClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return drive(operation(*args, **kwargs), self.http)

    return method


def awaitable(operation: Callable[P, Operation[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """Make a method of an async client from an operation."""

    @wraps(operation)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await drive_async(operation(*args, **kwargs), self.http)

    return method
