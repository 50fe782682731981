"""An Airflow connection of type ``prometheus`` becomes a client."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_mlplatform.clients.prometheus import AsyncPrometheusClient, PrometheusClient, PrometheusEndpoint
from airflow_mlplatform.exceptions import ConfigurationError, MlplatformError
from airflow_mlplatform.hooks.connection import ConnectionHook, http_endpoint
from airflow_mlplatform.settings import settings

if TYPE_CHECKING:
    from airflow.sdk import Connection

__all__ = ["PrometheusHook"]


class PrometheusHook(ConnectionHook):
    """The query API of Prometheus, or of what speaks as it does (Thanos, Mimir, VictoriaMetrics).

    The connection: ``host`` (a name or a whole URL), ``port``, ``schema`` (``http`` or ``https``), ``login`` and
    ``password`` (basic authentication). In ``extra``: a bearer ``token``; ``path``, the prefix behind an ingress
    (``/prometheus``), for addresses without one; ``verify`` (``false``, or the path of a CA bundle); ``headers`` of
    each request, as ``{"X-Scope-OrgID": "team"}``. How the form looks is in ``provider_info.py``.

    :param prometheus_conn_id: connection id; that of the ``[mlplatform]`` section if left out.
    """

    conn_name_attr = "prometheus_conn_id"
    default_conn_name = "prometheus_default"
    conn_type = "prometheus"
    hook_name = "Prometheus"
    advice = "or name another in [mlplatform] prometheus_conn_id"

    def __init__(self, prometheus_conn_id: str | None = None) -> None:
        self.prometheus_conn_id = prometheus_conn_id or settings().prometheus_conn_id
        super().__init__(self.prometheus_conn_id)

    def get_conn(self) -> PrometheusClient:
        """Return the blocking client, as hooks do."""
        return self.client()

    def client(self) -> PrometheusClient:
        """Return a blocking client; close it, or use it as a context manager."""
        return PrometheusClient(self.endpoint())

    async def async_client(self) -> AsyncPrometheusClient:
        """Return an async client, with the connection looked up without blocking the event loop."""
        await self.aconnection()
        return AsyncPrometheusClient(self.endpoint())

    def endpoint(self) -> PrometheusEndpoint:
        """Return address and credentials.

        :raises ConfigurationError: if the connection names no address, or headers that are none.
        """
        connection = self.connection
        return PrometheusEndpoint(http_endpoint(connection, self._url(connection)), self._headers(connection))

    def _url(self, connection: Connection) -> str:
        if not connection.host:
            raise ConfigurationError(
                f"connection {self.prometheus_conn_id!r} names no host; set it to Prometheus' address, like "
                "http://prometheus:9090"
            )
        address = connection.host if "://" in connection.host else f"{connection.schema or 'http'}://{connection.host}"
        parts = urlsplit(address)
        port = f":{connection.port}" if connection.port and ":" not in parts.netloc.rpartition("]")[2] else ""
        path = parts.path.strip("/") or str(connection.extra_dejson.get("path") or "").strip("/")
        return f"{parts.scheme}://{parts.netloc}{port}/{path}".rstrip("/")

    def _headers(self, connection: Connection) -> dict[str, str]:
        headers = connection.extra_dejson.get("headers") or {}
        if not isinstance(headers, dict) or not all(map(_can_be_sent, (*headers, *headers.values()))):
            # Not the headers themselves: they may be secret.
            raise ConfigurationError(
                f"connection {self.prometheus_conn_id!r}: headers is no object of names and values in plain letters; "
                'write {"X-Scope-OrgID": "team"}'
            )
        return dict(headers)

    def test_connection(self) -> tuple[bool, str]:
        """Say whether Prometheus answers queries, for the button in the connection form."""
        try:
            with self.client() as client:
                targets = client.query("count(up)").samples
        except MlplatformError as error:
            return False, str(error)
        return True, f"Prometheus answers; it knows {targets[0].value:.0f} targets" if targets else "Prometheus answers"


def _can_be_sent(text: object) -> bool:
    return isinstance(text, str) and text.isascii() and text.isprintable() and bool(text)
