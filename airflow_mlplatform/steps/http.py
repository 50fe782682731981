"""Reading over HTTP: an answer streamed to a file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from airflow_mlplatform.exceptions import (
    ConfigurationError,
    NotFound,
    ServiceRefused,
    ServiceUnavailable,
    UnsupportedHere,
)
from airflow_mlplatform.specs.common import ConnectionRef, SecretRef
from airflow_mlplatform.steps.formats import reading
from airflow_mlplatform.steps.storage import public
from airflow_mlplatform.steps.workbench import Table, Workbench

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_mlplatform.specs.etl import HttpSource
    from airflow_mlplatform.steps.login import Login

__all__ = ["Request", "download", "read_http"]

PASSING = {408, 425, 429}
TIMEOUT = httpx.Timeout(60, connect=10)


@dataclass(frozen=True)
class Request:
    """What to ask for. Only the URL without its query shows in messages.

    :param url: the address.
    :param params: query parameters.
    :param headers: headers; may hold secrets.
    :param auth: user and password, if any.
    """

    url: str
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    auth: tuple[str, str] | None = field(default=None, repr=False)


def download(request: Request, target: Path, bench: Workbench, transport: httpx.BaseTransport | None = None) -> None:
    """Stream an answer into a file.

    :param transport: replaces the network, in tests.
    :raises NotFound: for 404 and 410.
    :raises ServiceRefused: for other answers that a retry will not mend.
    :raises ServiceUnavailable: for outages, overload and answers that break off.
    """
    where = public(request.url)
    try:
        with (
            httpx.Client(timeout=TIMEOUT, follow_redirects=True, transport=transport) as client,
            client.stream(
                "GET", request.url, params=request.params or None, headers=dict(request.headers), auth=request.auth
            ) as response,
        ):
            _check(response, where)
            with target.open("wb") as file:
                for chunk in response.iter_bytes():
                    bench.engine.go_on()
                    file.write(chunk)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ConfigurationError(f"{where}: is no URL that can be asked: {error}") from None
    except httpx.HTTPError as error:
        raise ServiceUnavailable(
            f"{where}: no whole answer ({type(error).__name__}: {error}); a retry may help"
        ) from None


def _check(response: httpx.Response, where: str) -> None:
    status = response.status_code
    if status < 400:
        return
    if status >= 500 or status in PASSING:
        raise ServiceUnavailable(f"{where}: answers {status}; a retry may help")
    if status in (404, 410):
        raise NotFound(f"{where}: answers {status}; check the path")
    raise ServiceRefused(f"{where}: answers {status}; check URL, parameters and the login of the connection")


def read_http(source: HttpSource, bench: Workbench) -> Table:
    """Read the answer of an HTTP API.

    :raises ConfigurationError: if the answer is not what the source says.
    """
    target = bench.engine.fresh("answer")
    download(_request(source, bench), target, bench)
    where = f"source http {public(source.url)}"
    with bench.engine.explaining(where, "check format and records"):
        if source.format == "json":
            target = _records(target, source.records, where)
        query = reading(bench.engine, [target], source.format, {})
        bench.engine.columns(query)
    return Table(query)


def _request(source: HttpSource, bench: Workbench) -> Request:
    headers = {name: _value(value, bench, name) for name, value in source.headers.items()}
    if source.connection is None:
        if source.url.startswith("/"):
            raise ConfigurationError(f"source http {source.url}: has no host; write the whole URL or add connection: …")
        return Request(source.url, source.params, headers)
    login = bench.storage.logins(source.connection)
    auth = (login.user, login.password) if login.user else None
    url = source.url if source.url.startswith("http") else _base(login) + source.url
    return Request(url, source.params, {**_texts(login.extra), **headers}, auth)


def _base(login: Login) -> str:
    if not login.host:
        raise ConfigurationError(f"connection {login.id!r}: has no host; fill it in")
    base = login.host if "://" in login.host else f"{login.schema or 'http'}://{login.host}"
    return (f"{base}:{login.port}" if login.port else base).rstrip("/")


def _texts(extra: Mapping[str, Any]) -> dict[str, str]:
    """Airflow's HTTP connections keep headers in their extra."""
    return {name: value for name, value in extra.items() if isinstance(value, str)}


def _value(value: str | SecretRef | ConnectionRef, bench: Workbench, header: str) -> str:
    if isinstance(value, SecretRef):
        raise UnsupportedHere(
            f"header {header}: secret {value.secret!r} is a Kubernetes Secret and this runs on the local runtime; "
            "use {connection: …}"
        )
    return bench.storage.logins(value.connection).password if isinstance(value, ConnectionRef) else value


def _records(answer: Path, path: str | None, where: str) -> Path:
    """Cut the list out of a JSON document; DuckDB reads lists and lines itself."""
    if path is None:
        return answer
    try:
        found: Any = json.loads(answer.read_bytes())
    except ValueError as error:
        raise ConfigurationError(f"{where}: the answer is not one JSON document ({error}); drop records") from None
    for key in path.split("."):
        if not isinstance(found, dict) or key not in found:
            there = f"keys {', '.join(map(str, list(found)[:10]))}" if isinstance(found, dict) else type(found).__name__
            raise ConfigurationError(f"{where}: records {path!r}: no {key!r} in the answer; there: {there}")
        found = found[key]
    if not isinstance(found, list):
        raise ConfigurationError(f"{where}: records {path!r} is no list but {type(found).__name__}")
    lines = answer.with_suffix(".ndjson")
    with lines.open("w") as file:
        file.writelines(json.dumps(record) + "\n" for record in found)
    return lines
