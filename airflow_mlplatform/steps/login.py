"""What a step needs to know of an Airflow connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from airflow_mlplatform.exceptions import ConfigurationError

__all__ = ["Login", "Logins", "no_logins"]


@dataclass(frozen=True)
class Login:
    """An address and who asks. Secrets do not show in its ``repr``.

    :param id: id of the connection, for messages.
    :param kind: type of the connection: ``postgres``, ``sqlite``, ``http``, ``aws`` …
    :param host: host name, URL or file, as the type has it.
    :param port: port, if any.
    :param user: user name or access key.
    :param password: password or secret key.
    :param schema: database name, or the protocol of an HTTP connection.
    :param extra: everything else.
    """

    id: str
    kind: str
    host: str = ""
    port: int | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    schema: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def censor(self, text: str) -> str:
        """Return ``text`` without the secrets of this login."""
        for secret in {self.password, unquote(self.password)} - {""}:
            text = text.replace(secret, "***")
        return text


Logins = Callable[[str], Login]
"""Finds the login of a connection id."""


def no_logins(connection: str) -> Login:
    """Stand in where there are no connections.

    :raises ConfigurationError: always.
    """
    raise ConfigurationError(f"connection {connection!r}: there are no connections here; run the step through Airflow")
