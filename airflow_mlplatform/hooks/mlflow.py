"""An Airflow connection of type ``mlflow`` becomes a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_mlplatform.clients.mlflow import AsyncMlflowClient, Endpoint, MlflowClient, ModelVersion, Run
from airflow_mlplatform.exceptions import ConfigurationError, MlplatformError
from airflow_mlplatform.hooks.connection import ConnectionHook, http_endpoint
from airflow_mlplatform.settings import settings

if TYPE_CHECKING:
    from airflow.sdk import Connection

__all__ = ["MlflowHook"]


class MlflowHook(ConnectionHook):
    """MLflow's tracking server and model registry.

    The connection: ``host`` (``mlflow.example.org`` or a whole URL), ``port``, ``schema`` (``http`` or ``https``),
    ``login`` and ``password`` (basic authentication), and in ``extra`` a bearer ``token``, ``verify`` (``false``, or
    the path of a CA bundle) and ``ui_url`` (where people open MLflow, if not at the same address).

    :param mlflow_conn_id: connection id; that of the ``[mlplatform]`` section if left out.
    """

    conn_name_attr = "mlflow_conn_id"
    default_conn_name = "mlflow_default"
    conn_type = "mlflow"
    hook_name = "MLflow"
    advice = "or name another in [mlplatform] mlflow_conn_id"

    def __init__(self, mlflow_conn_id: str | None = None) -> None:
        self.mlflow_conn_id = mlflow_conn_id or settings().mlflow_conn_id
        super().__init__(self.mlflow_conn_id)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Say how the connection form looks."""
        return {
            "hidden_fields": [],
            "relabeling": {"schema": "Scheme (http or https)", "host": "Address of MLflow"},
            "placeholders": {
                "host": "mlflow.example.org or http://mlflow:5000",
                "extra": '{"token": "…", "verify": "/etc/ca.pem", "ui_url": "https://mlflow.example.org"}',
            },
        }

    def get_conn(self) -> MlflowClient:
        """Return the blocking client, as hooks do."""
        return self.client()

    def client(self) -> MlflowClient:
        """Return a blocking client; close it, or use it as a context manager."""
        return MlflowClient(self.endpoint())

    async def async_client(self) -> AsyncMlflowClient:
        """Return an async client, with the connection looked up without blocking the event loop."""
        await self.aconnection()
        return AsyncMlflowClient(self.endpoint())

    def endpoint(self) -> Endpoint:
        """Return address and credentials.

        :raises ConfigurationError: if the connection names no address.
        """
        return http_endpoint(self.connection, self._url(self.connection))

    def _url(self, connection: Connection) -> str:
        if not connection.host:
            raise ConfigurationError(
                f"connection {self.mlflow_conn_id!r} names no host; set it to MLflow's address, like http://mlflow:5000"
            )
        address = connection.host if "://" in connection.host else f"{connection.schema or 'http'}://{connection.host}"
        parts = urlsplit(address)
        port = f":{connection.port}" if connection.port and ":" not in parts.netloc.rpartition("]")[2] else ""
        return f"{parts.scheme}://{parts.netloc}{port}{parts.path}".rstrip("/")

    def environment(self) -> dict[str, str]:
        """Return the environment variables with which a child process reaches the same MLflow; they hold secrets."""
        endpoint = self.endpoint()
        variables = {"MLFLOW_TRACKING_URI": endpoint.url}
        if endpoint.token:
            variables["MLFLOW_TRACKING_TOKEN"] = endpoint.token
        elif endpoint.login:
            variables["MLFLOW_TRACKING_USERNAME"] = endpoint.login
            variables["MLFLOW_TRACKING_PASSWORD"] = endpoint.password or ""
        if endpoint.verify is False:
            variables["MLFLOW_TRACKING_INSECURE_TLS"] = "true"
        elif isinstance(endpoint.verify, str):
            variables["MLFLOW_TRACKING_SERVER_CERT_PATH"] = endpoint.verify
        return variables

    @property
    def ui_url(self) -> str:
        """Address at which people open MLflow."""
        return str(self.connection.extra_dejson.get("ui_url") or self._url(self.connection)).rstrip("/")

    def run_url(self, run: Run) -> str:
        """Return the page of a run."""
        return f"{self.ui_url}/#/experiments/{run.experiment_id}/runs/{run.run_id}"

    def version_url(self, version: ModelVersion) -> str:
        """Return the page of a model version."""
        return f"{self.ui_url}/#/models/{quote(version.name, safe='')}/versions/{version.version}"

    def test_connection(self) -> tuple[bool, str]:
        """Say whether MLflow answers, for the button in the connection form."""
        try:
            with self.client() as client:
                return True, f"MLflow {client.version()} answers"
        except MlplatformError as error:
            return False, str(error)
