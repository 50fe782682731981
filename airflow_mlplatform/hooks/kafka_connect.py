"""An Airflow connection of type ``kafka_connect`` becomes a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_mlplatform.clients.kafka_connect import (
    AsyncKafkaConnectClient,
    ClientCertificate,
    ConnectEndpoint,
    KafkaConnectClient,
)
from airflow_mlplatform.exceptions import ConfigurationError, MlplatformError
from airflow_mlplatform.hooks.connection import ConnectionHook, http_endpoint

if TYPE_CHECKING:
    from airflow.sdk import Connection

__all__ = ["KafkaConnectHook"]

TEST_PATIENCE = 3.0


class KafkaConnectHook(ConnectionHook):
    """The REST API of a Kafka Connect cluster.

    The connection: ``host``, one worker or several with commas between them (``connect-1,connect-2:8084`` or whole
    URLs), each of which may bear a path; ``port`` for those that name none (8083); ``schema`` (``http`` or ``https``);
    ``login`` and ``password`` (basic authentication). In ``extra``: a bearer ``token``; ``path``, a prefix for
    addresses without one (an ingress); ``verify`` (``false``, or the path of a CA bundle); ``certificate``, ``key`` and
    ``key_password`` for mutual TLS; ``ui_url``, where people look at a connector, with ``{name}`` for its name. How the
    form looks is in ``provider_info.py``.

    :param kafka_connect_conn_id: connection id.
    """

    conn_name_attr = "kafka_connect_conn_id"
    default_conn_name = "kafka_connect_default"
    conn_type = "kafka_connect"
    hook_name = "Kafka Connect"
    advice = "or name another in kafka_connect_conn_id"

    def __init__(self, kafka_connect_conn_id: str = default_conn_name) -> None:
        super().__init__(kafka_connect_conn_id)
        self.kafka_connect_conn_id = kafka_connect_conn_id

    def get_conn(self) -> KafkaConnectClient:
        """Return the blocking client, as hooks do."""
        return self.client()

    def client(self) -> KafkaConnectClient:
        """Return a blocking client; close it, or use it as a context manager."""
        return KafkaConnectClient(self.endpoint())

    async def async_client(self) -> AsyncKafkaConnectClient:
        """Return an async client, with the connection looked up without blocking the event loop."""
        await self.aconnection()
        return AsyncKafkaConnectClient(self.endpoint())

    def endpoint(self) -> ConnectEndpoint:
        """Return addresses and credentials.

        :raises ConfigurationError: if the connection names no address, or one that is none.
        """
        connection = self.connection
        workers = tuple(http_endpoint(connection, url) for url in self._urls(connection))
        return ConnectEndpoint(workers, _certificate(connection.extra_dejson))

    def _urls(self, connection: Connection) -> list[str]:
        hosts = [host.strip() for host in (connection.host or "").split(",") if host.strip()]
        if not hosts:
            raise ConfigurationError(
                f"connection {self.kafka_connect_conn_id!r} names no host; set it to the address of a Kafka Connect "
                "worker, or of several with commas between them"
            )
        return [self._url(host, connection) for host in hosts]

    def _url(self, host: str, connection: Connection) -> str:
        bare = "://" not in host
        parts = urlsplit(f"{connection.schema or 'http'}://{host}" if bare else host)
        if "@" in parts.netloc:
            raise ConfigurationError(
                f"connection {self.kafka_connect_conn_id!r}: an address in host bears a login, which would be shown "
                "wherever the address is; write it in login and password"
            )
        named = ":" in parts.netloc.rpartition("]")[2]
        # A whole URL without a port means that of its scheme, unless the connection has one.
        port = connection.port or (8083 if bare else None)
        path = parts.path.rstrip("/") or "/" + str(connection.extra_dejson.get("path") or "").strip("/")
        return f"{parts.scheme}://{parts.netloc}{'' if named or not port else f':{port}'}{path}".rstrip("/")

    def connector_url(self, name: str) -> str:
        """Return where people look at a connector: in the UI of the connection, else in the REST API."""
        template = str(self.connection.extra_dejson.get("ui_url") or self.endpoint().urls[0] + "/connectors/{name}")
        return template.replace("{name}", quote(name, safe=""))

    def test_connection(self) -> tuple[bool, str]:
        """Say whether Kafka Connect answers, for the button in the connection form."""
        try:
            with KafkaConnectClient(self.endpoint(), patience=TEST_PATIENCE) as client:
                return True, f"Kafka Connect {client.version()} answers, with {len(client.plugins())} connector plugins"
        except MlplatformError as error:
            return False, str(error)


def _certificate(extra: dict[str, Any]) -> ClientCertificate | None:
    file = extra.get("certificate")
    return ClientCertificate(file, extra.get("key") or None, extra.get("key_password") or None) if file else None
