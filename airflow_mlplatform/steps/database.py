"""Reading the result of a query into a file, batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.postgres import read_postgres
from airflow_mlplatform.steps.sqlite import read_sqlite

if TYPE_CHECKING:
    from airflow_mlplatform.specs.etl import SqlSource
    from airflow_mlplatform.steps.workbench import Table, Workbench

__all__ = ["read_sql"]

READERS = {
    "postgres": read_postgres,
    "postgresql": read_postgres,
    "sqlite": read_sqlite,
}


def read_sql(source: SqlSource, bench: Workbench) -> Table:
    """Run a query and keep its result in scratch, so that the database is free again as soon as it is read.

    :raises ConfigurationError: for a database that is not supported, or a query that it does not accept.
    :raises ServiceRefused: if it does not let us in.
    :raises ServiceUnavailable: if it does not answer.
    """
    login = bench.storage.logins(source.connection)
    reader = READERS.get(login.kind)
    if reader is None:
        raise ConfigurationError(
            f"connection {login.id!r} is of type {login.kind!r}; source sql reads PostgreSQL (type postgres) and "
            "SQLite (type sqlite); for others export to files and use source files"
        )
    return reader(source.query, login, bench)
