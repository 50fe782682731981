"""A client of Prometheus' query API, blocking and async, with the same methods."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from airflow_mlplatform.clients import prometheus_operations as operations
from airflow_mlplatform.clients.http import AsyncClient, BlockingClient, Endpoint, awaitable, blocking
from airflow_mlplatform.clients.prometheus_entities import Answer, RangeAnswer, Sample, Series
from airflow_mlplatform.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Answer",
    "AsyncPrometheusClient",
    "PrometheusClient",
    "PrometheusEndpoint",
    "RangeAnswer",
    "Sample",
    "Series",
]


@dataclass(frozen=True)
class PrometheusEndpoint:
    """Where Prometheus answers and how we show who we are.

    :param endpoint: address and credentials.
    :param headers: further headers of each request, as ``X-Scope-OrgID``; they may be secret.
    """

    endpoint: Endpoint
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def options(self) -> dict[str, Any]:
        """Return keyword arguments for the clients of httpx.

        :raises ConfigurationError: if the CA bundle cannot be used.
        """
        try:
            options = self.endpoint.options()
        except OSError as error:
            raise ConfigurationError(
                f"the CA bundle {self.endpoint.verify} for {self.endpoint.url} cannot be used: {error}; see that the "
                "file named in the connection (verify) is here and holds certificates (PEM)"
            ) from error
        return options | {"headers": {**self.headers, **options["headers"]}}


class PrometheusClient(BlockingClient):
    """Blocking client; a context manager that closes its connections.

    Every method raises :class:`~airflow_mlplatform.exceptions.ServiceUnavailable` for an outage,
    :class:`~airflow_mlplatform.exceptions.ConfigurationError` with Prometheus' own message for a query that it cannot
    evaluate, and :class:`~airflow_mlplatform.exceptions.ServiceRefused` for any other refusal.

    :param endpoint: where Prometheus answers.
    :param transport: another transport, for tests.
    """

    def __init__(self, endpoint: PrometheusEndpoint, transport: httpx.BaseTransport | None = None) -> None:
        super().__init__(endpoint, httpx.Client(**endpoint.options(), transport=transport))
        self.endpoint = endpoint

    query = blocking(operations.query)
    query_range = blocking(operations.query_range)


class AsyncPrometheusClient(AsyncClient):
    """Async client for triggers; an async context manager. Methods and errors are those of :class:`PrometheusClient`.

    :param endpoint: where Prometheus answers.
    :param transport: another transport, for tests.
    """

    def __init__(self, endpoint: PrometheusEndpoint, transport: httpx.AsyncBaseTransport | None = None) -> None:
        super().__init__(endpoint, httpx.AsyncClient(**endpoint.options(), transport=transport))
        self.endpoint = endpoint

    query = awaitable(operations.query)
    query_range = awaitable(operations.query_range)
