"""PostgreSQL through its ADBC driver: binary COPY into Arrow batches."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow_mlplatform.exceptions import ConfigurationError, ServiceRefused, ServiceUnavailable
from airflow_mlplatform.steps.engine import identifier
from airflow_mlplatform.steps.stream import spool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlplatform.steps.login import Login
    from airflow_mlplatform.steps.workbench import Table, Workbench

__all__ = ["read_postgres"]

LIBPQ_OPTIONS = {
    "application_name", "connect_timeout", "hostaddr", "keepalives", "keepalives_idle", "options", "sslcert",
    "sslkey", "sslmode", "sslrootcert", "target_session_attrs",
}  # fmt: skip
LARGEST_WHOLE = 2**53
NO_ENTRY = ("password authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")
# SQLSTATE classes that a retry does not mend: the query, its values, rights, or names.
OUR_MISTAKE = ("0A", "22", "23", "25", "42")


def read_postgres(query: str, login: Login, bench: Workbench) -> Table:
    """Run a query in a transaction that is rolled back, and keep its result in scratch."""
    from adbc_driver_postgresql import dbapi

    where = f"source sql (connection {login.id!r})"
    with (
        _explaining(where, login),
        dbapi.connect(_uri(login)) as connection,
        connection.cursor() as cursor,
        bench.engine.stoppable(cursor.adbc_cancel),
    ):
        cursor.execute(query.strip().rstrip(";"))
        reader = cursor.fetch_record_batch()
        if not reader.schema.names:
            raise ConfigurationError(f"{where}: the query gives no columns; write a SELECT")
        casts = dict(filter(None, (_cast(field, where) for field in reader.schema)))
        return spool(reader.schema, reader, bench, where, lambda name: _select(name, casts))


def _uri(login: Login) -> str:
    options = {"connect_timeout": "10", "application_name": "mlplatform"}
    options |= {name: str(value) for name, value in login.extra.items() if name in LIBPQ_OPTIONS}
    user = quote(login.user, safe="") + (f":{quote(login.password, safe='')}" if login.password else "")
    host = quote(login.host, safe=":[]") + (f":{login.port}" if login.port else "")
    database = quote(login.schema, safe="")
    return f"postgresql://{user}{'@' if user else ''}{host}/{database}?{urlencode(options, quote_via=quote)}"


@contextmanager
def _explaining(where: str, login: Login) -> Iterator[None]:
    from adbc_driver_manager import Error

    try:
        yield
    except Error as error:
        message = login.censor(str(error).strip())
        state = error.sqlstate or ""
        if state.startswith(OUR_MISTAKE):
            raise ConfigurationError(f"{where}: {message}; correct the query") from None
        if state.startswith(("28", "3D")) or (not state and any(word in message for word in NO_ENTRY)):
            raise ServiceRefused(f"{where}: {message}; check the connection's login and schema (database)") from None
        raise ServiceUnavailable(f"{where}: {message}; a retry may help") from None
    except OSError as error:
        raise ServiceUnavailable(f"{where}: broke off: {login.censor(str(error))}; a retry may help") from None


def _cast(field: Any, where: str) -> tuple[str, str] | None:
    """Give exact numbers a type: the driver hands them over as text."""
    kind = getattr(field.type, "type_name", None)
    column = identifier(field.name)
    if kind is None:
        return None
    if kind != "numeric":
        raise ConfigurationError(
            f"{where}: column {field.name!r} is of PostgreSQL's type {kind}, which has no Arrow type; "
            f"cast it in the query: {column}::text"
        )
    declared = _declared(int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"'-1'").strip(b"'")))
    if declared:
        return column, f"CAST({column} AS {declared})"
    message = f"column {field.name}: too large for a double; cast it in the query, to bigint, numeric(38,0) or text"
    double = f"CAST({column} AS DOUBLE)"
    quoted = "'" + message.replace("'", "''") + "'"
    return (
        column,
        f"CASE WHEN abs({double}) > {LARGEST_WHOLE} AND isfinite({double}) THEN error({quoted}) ELSE {double} END",
    )


def _declared(typmod: int) -> str | None:
    """Read precision and scale out of a type modifier, as PostgreSQL packs them."""
    if typmod < 4:
        return None
    precision, scale = (typmod - 4) >> 16 & 0xFFFF, (typmod - 4) & 0x7FF
    return f"DECIMAL({precision}, {scale})" if precision <= 38 and scale <= precision else None


def _select(name: str, casts: dict[str, str]) -> str:
    if not casts:
        return f"SELECT * FROM {name}"
    return f"SELECT * REPLACE ({', '.join(f'{cast} AS {column}' for column, cast in casts.items())}) FROM {name}"
