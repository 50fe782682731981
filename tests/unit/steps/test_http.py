from __future__ import annotations

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_mlplatform.exceptions import (
    ConfigurationError,
    MlplatformError,
    NotFound,
    ServiceRefused,
    ServiceUnavailable,
    UnsupportedHere,
)
from airflow_mlplatform.specs.etl import FilesSource, HttpSource
from airflow_mlplatform.steps.files import read_files
from airflow_mlplatform.steps.http import read_http
from airflow_mlplatform.steps.login import Login
from tests.services.etl_parts import Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORDS = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]


class Api(BaseHTTPRequestHandler):
    """An HTTP API; tells what it was asked."""

    asked: ClassVar[list[tuple[str, dict[str, list[str]], dict[str, str]]]] = []
    answers: ClassVar[dict[str, tuple[int, bytes]]] = {
        "/list": (200, json.dumps(RECORDS).encode()),
        "/lines": (200, b"\n".join(json.dumps(record).encode() for record in RECORDS)),
        "/nested": (200, json.dumps({"data": {"items": RECORDS}, "next": None}).encode()),
        "/csv": (200, b"id,name\n1,a\n2,b\n"),
        "/files/x.csv": (200, b"id,name\n1,a\n2,b\n"),
        "/denied": (403, b""),
        "/busy": (429, b""),
        "/broken": (503, b""),
    }

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.asked.append((url.path, parse_qs(url.query), {name.lower(): text for name, text in self.headers.items()}))
        status, body = self.answers.get(url.path, (404, b""))
        short = url.path == "/cut"
        self.send_response(200 if short else status)
        self.send_header("Content-Length", "1000" if short else str(len(body)))
        self.end_headers()
        self.wfile.write(b"id\n1\n" if short else body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[str]:
    Api.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def site(tmp_path: Path, api: str) -> Site:
    host, port = api.removeprefix("http://").split(":")
    login = Login("api", "http", host, int(port), "me", "s3cret", extra={"X-Tenant": "wine", "timeout": 5})
    return Site(tmp_path, {"api": login, "token": replace(login, id="token", password="t0ken")})


def ask(site: Site, **source: Any) -> list[tuple[Any, ...]]:
    with site.bench() as bench:
        return bench.engine.rows(read_http(HttpSource(**source), bench).query)


@pytest.mark.parametrize(
    ("path", "more"),
    [("/list", {}), ("/lines", {}), ("/nested", {"records": "data.items"}), ("/csv", {"format": "csv"})],
)
def test_answers(site: Site, api: str, path: str, more: dict[str, Any]) -> None:
    assert ask(site, url=api + path, **more) == [(1, "a"), (2, "b")]


def test_what_is_asked(site: Site) -> None:
    from airflow_mlplatform.specs.common import ConnectionRef

    headers = {"X-Plain": "p", "X-Token": ConnectionRef(connection="token")}
    ask(site, url="/list", connection="api", params={"day": "2026-01-01", "q": "a b&c"}, headers=headers)
    path, params, sent = Api.asked[0]
    assert (path, params) == ("/list", {"day": ["2026-01-01"], "q": ["a b&c"]})
    assert (sent["x-plain"], sent["x-token"], sent["x-tenant"]) == ("p", "t0ken", "wine")
    assert sent["authorization"].startswith("Basic ")
    assert "timeout" not in sent


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/gone", NotFound),
        ("/denied", ServiceRefused),
        ("/busy", ServiceUnavailable),
        ("/broken", ServiceUnavailable),
        ("/cut", ServiceUnavailable),
    ],
)
def test_refusals_and_outages(site: Site, path: str, error: type[MlplatformError]) -> None:
    with pytest.raises(error) as caught:
        ask(site, url=path, connection="api", params={"token": "hush"}, format="csv")
    assert type(caught.value) is error
    assert path in str(caught.value)
    assert not {"hush", "s3cret"} & set(str(caught.value).split())
    assert "hush" not in str(caught.value)


def test_nobody_listens(site: Site) -> None:
    with pytest.raises(ServiceUnavailable, match="ConnectError"):
        ask(site, url="http://user:hush@127.0.0.1:1/x?token=hush")


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ("data.rows", r"no 'rows' in the answer; there: keys items"),
        ("next", "is no list but NoneType"),
        ("data.items.x", "list"),
    ],
)
def test_records_that_are_not_there(site: Site, api: str, records: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        ask(site, url=f"{api}/nested", records=records)


def test_kubernetes_secrets_need_kubernetes(site: Site, api: str) -> None:
    from airflow_mlplatform.specs.common import SecretRef

    with pytest.raises(UnsupportedHere, match="header X: secret 's' is a Kubernetes Secret"):
        ask(site, url=f"{api}/list", headers={"X": SecretRef(secret="s", key="k")})


def test_files_over_http(site: Site, api: str) -> None:
    with site.bench() as bench:
        table = read_files(FilesSource(uri=f"{api}/files/x.csv?signature=hush"), bench)
        assert bench.engine.rows(table.query) == [(1, "a"), (2, "b")]
        with pytest.raises(NotFound, match=r"/files/y\.csv: answers 404") as caught:
            read_files(FilesSource(uri=f"{api}/files/y.csv?signature=hush"), bench)
    assert "hush" not in str(caught.value)
