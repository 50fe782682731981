"""An Airflow connection becomes what a step needs to know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.login import Login

if TYPE_CHECKING:
    from airflow.sdk import Connection

__all__ = ["login_from", "login_of"]


def login_of(conn_id: str) -> Login:
    """Read an Airflow connection.

    :raises ConfigurationError: if there is none of that id.
    """
    try:
        return login_from(conn_id, BaseHook.get_connection(conn_id))
    except AirflowNotFoundException as error:
        raise ConfigurationError(f"connection {conn_id!r} is not there; add it to Airflow") from error


def login_from(conn_id: str, connection: Connection) -> Login:
    """Take over what an Airflow connection says."""
    return Login(
        id=conn_id,
        kind=connection.conn_type or "",
        host=connection.host or "",
        port=connection.port,
        user=connection.login or "",
        password=connection.password or "",
        schema=connection.schema or "",
        extra=connection.extra_dejson,
    )
