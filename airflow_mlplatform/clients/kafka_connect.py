"""A client of Kafka Connect's REST API, blocking and async, over as many workers as are named.

Any worker answers any request; what one does not answer is asked at the next. The blocking client also bears what the
workers say while they are busy with themselves, for some time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import httpx

from airflow_mlplatform.clients import kafka_connect_operations as operations
from airflow_mlplatform.clients.failover import AsyncFailover, Failover
from airflow_mlplatform.clients.http import AsyncClient, BlockingClient, Endpoint, Operation, awaitable, drive
from airflow_mlplatform.clients.kafka_connect_entities import (
    Connector,
    ConnectorState,
    ConnectorStatus,
    Plugin,
    TaskStatus,
)
from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable

if TYPE_CHECKING:
    import ssl

__all__ = [
    "AsyncKafkaConnectClient",
    "ClientCertificate",
    "ConnectEndpoint",
    "Connector",
    "ConnectorState",
    "ConnectorStatus",
    "KafkaConnectClient",
    "Plugin",
    "TaskStatus",
]

T = TypeVar("T")
P = ParamSpec("P")

# A worker that hangs in a rebalance answers after 90 s by itself.
TIMEOUT = httpx.Timeout(95.0, connect=5.0)
PATIENCE = 120.0
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 5.0


@dataclass(frozen=True)
class ClientCertificate:
    """Who we are in mutual TLS.

    :param file: path of the certificate (PEM), perhaps with its chain and key.
    :param key: path of the private key; in the same file if ``None``.
    :param password: password of the private key.
    """

    file: str
    key: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ConnectEndpoint:
    """Where the workers of one Connect cluster answer and how we show who we are.

    :param workers: one address or more; login and TLS are the same for all.
    :param certificate: client certificate, for mutual TLS.
    :raises ConfigurationError: if there is no address.
    """

    workers: tuple[Endpoint, ...]
    certificate: ClientCertificate | None = None

    def __post_init__(self) -> None:
        if not self.workers:
            raise ConfigurationError("there is no address of a Kafka Connect worker; name one at least")

    @property
    def urls(self) -> tuple[str, ...]:
        """Base URLs of the workers."""
        return tuple(worker.url.rstrip("/") for worker in self.workers)

    def options(self) -> dict[str, Any]:
        """Return keyword arguments for the clients of httpx."""
        options = self.workers[0].options()
        return {name: options[name] for name in ("base_url", "headers", "auth")} | {"timeout": TIMEOUT}

    def tls(self) -> ssl.SSLContext | bool:
        """Return what the transports of httpx call ``verify``.

        :raises ConfigurationError: if a file of certificates cannot be used.
        """
        if self.certificate is None and not any(url.lower().startswith("https:") for url in self.urls):
            # Reading whom this machine trusts takes longer than asking a worker.
            return False
        try:
            verify: ssl.SSLContext | bool = self.workers[0].options()["verify"]
            if self.certificate is None:
                return verify
            context = httpx.create_ssl_context(verify)
            context.load_cert_chain(self.certificate.file, self.certificate.key, self.certificate.password)
        except OSError as error:
            raise ConfigurationError(
                f"the certificates for {self.urls[0]} cannot be used: {error}; see that the files named in the "
                "connection (verify, certificate, key) are here and belong together"
            ) from error
        return context


class KafkaConnectClient(BlockingClient):
    """Blocking client; a context manager that closes its connections.

    Every method raises :class:`~airflow_mlplatform.exceptions.ServiceUnavailable` for an outage that outlasts its
    patience, :class:`~airflow_mlplatform.exceptions.ServiceRefused` with Connect's own message for a refusal, and its
    subclass :class:`~airflow_mlplatform.exceptions.NotFound` for what is not there.

    :param endpoint: where the workers answer.
    :param patience: seconds for which a call is repeated while no worker can answer it: all are down, a rebalance goes
        on, the leader changes.
    :param transport: another transport, for tests.
    """

    def __init__(
        self, endpoint: ConnectEndpoint, patience: float = PATIENCE, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.endpoint = endpoint
        self.patience = patience
        inner = transport or httpx.HTTPTransport(verify=endpoint.tls())
        super().__init__(endpoint, httpx.Client(**endpoint.options(), transport=Failover(endpoint.urls, inner)))

    @staticmethod
    def _patient(operation: Callable[P, Operation[T]]) -> Callable[Concatenate[KafkaConnectClient, P], T]:
        """Make a method that repeats its operation, all of which may be repeated."""

        @wraps(operation)
        def method(self: KafkaConnectClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
            deadline = time.monotonic() + self.patience
            pause = FIRST_PAUSE
            while True:
                try:
                    return drive(operation(*args, **kwargs), self.http)
                except ServiceUnavailable:
                    if time.monotonic() + pause > deadline:
                        raise
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

        return method

    version = _patient(operations.version)
    plugins = _patient(operations.plugins)
    validate = _patient(operations.validate)
    list_connectors = _patient(operations.list_connectors)
    get_config = _patient(operations.get_config)
    get_status = _patient(operations.get_status)
    get_connector = _patient(operations.get_connector)
    put_config = _patient(operations.put_config)
    create = _patient(operations.create)
    delete = _patient(operations.delete)
    set_state = _patient(operations.set_state)
    restart = _patient(operations.restart)
    get_offsets = _patient(operations.get_offsets)
    set_offsets = _patient(operations.set_offsets)
    reset_offsets = _patient(operations.reset_offsets)


class AsyncKafkaConnectClient(AsyncClient):
    """Async client for triggers; an async context manager. It has no patience: triggers look again anyway.

    :param endpoint: where the workers answer.
    :param transport: another transport, for tests.
    """

    def __init__(self, endpoint: ConnectEndpoint, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.endpoint = endpoint
        inner = transport or httpx.AsyncHTTPTransport(verify=endpoint.tls())
        super().__init__(
            endpoint, httpx.AsyncClient(**endpoint.options(), transport=AsyncFailover(endpoint.urls, inner))
        )

    late = False
    """What workers tell is what they know."""

    async def refresh(self, name: str) -> None:
        """Do nothing: there is nothing that could be fresher."""

    list_connectors = awaitable(operations.list_connectors)
    get_connector = awaitable(operations.get_connector)
    restart = awaitable(operations.restart)
    get_offsets = awaitable(operations.get_offsets)
