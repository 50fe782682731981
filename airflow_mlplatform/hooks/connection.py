"""What the hooks share: an Airflow connection, looked up once, and what of it an HTTP client needs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlplatform.clients.http import Endpoint
from airflow_mlplatform.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Connection

__all__ = ["ConnectionHook", "http_endpoint"]

FALSE_WORDS = frozenset({"false", "0", "no", "off"})


class ConnectionHook(BaseHook):
    """Base of hooks that look their connection up once, blocking or not.

    :cvar conn_type: type of the connection, for the message if there is none.
    :cvar advice: how that message goes on.
    :param conn_id: connection id.
    """

    conn_type: ClassVar[str]
    advice: ClassVar[str]

    def __init__(self, conn_id: str) -> None:
        super().__init__()
        self._conn_id = conn_id
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The Airflow connection.

        :raises ConfigurationError: if there is none of that id.
        """
        if self._connection is None:
            with self._missing_named():
                self._connection = self.get_connection(self._conn_id)
        return self._connection

    async def aconnection(self) -> Connection:
        """Return the same, looked up without blocking the event loop."""
        if self._connection is None:
            with self._missing_named():
                self._connection = await self.aget_connection(self._conn_id)
        return self._connection

    @contextmanager
    def _missing_named(self) -> Iterator[None]:
        try:
            yield
        except AirflowNotFoundException as error:
            raise ConfigurationError(
                f"there is no Airflow connection {self._conn_id!r}; add one of type {self.conn_type} "
                f"(Admin → Connections) {self.advice}"
            ) from error


def http_endpoint(connection: Connection, url: str) -> Endpoint:
    """Return an address with the credentials of a connection: login and password, or in its extra a bearer ``token``;
    ``verify`` there is ``false`` or the path of a CA bundle.
    """
    extra = connection.extra_dejson
    return Endpoint(
        url=url,
        login=connection.login or None,
        password=connection.password or None,
        token=extra.get("token") or None,
        verify=_verify(extra.get("verify", True)),
    )


def _verify(value: bool | str | None) -> bool | str:
    if isinstance(value, str) and value.lower() in FALSE_WORDS:
        return False
    return True if value in (True, "", "true", "True", None) else value
