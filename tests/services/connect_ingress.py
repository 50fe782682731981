"""What stands before Kafka Connect in real life: TLS, a path prefix, a bearer token; it notes what passes.

with ConnectIngress(connect.urls[0], prefix="/kafka/connect", token="…", tls=authority.sign("ingress")) as ingress:
    httpx.get(f"{ingress.url}/connectors", …)
    ingress.passed                               # ["GET /connectors"]
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, Self

import httpx

if TYPE_CHECKING:
    from tests.services.certificates import Signed


@dataclass
class ConnectIngress:
    """A reverse proxy before one worker.

    :param worker: base URL of the worker.
    :param prefix: path below which it is found; everything else is an HTML page with 404.
    :param token: bearer token that each request has to bear.
    :param tls: certificate of the proxy; plain HTTP without.
    :param passed: what it handed on, method and path.
    :param on_answer: called with method and path when the worker has answered, before the answer goes back.
    """

    worker: str
    prefix: str = ""
    token: str = ""
    tls: Signed | None = None
    passed: list[str] = field(default_factory=list)
    on_answer: Callable[[str], None] = lambda _: None
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=95), init=False)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"ingress": self}))
        self._server.daemon_threads = True
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls.certificate, self.tls.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    @property
    def url(self) -> str:
        """Its address, prefix included."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self._server.server_port}{self.prefix}"

    @property
    def changes(self) -> list[str]:
        """What passed that changes something."""
        return [one for one in self.passed if not one.startswith("GET ") and "/validate" not in one]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.client.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ingress: ClassVar[ConnectIngress]

    def _pass_on(self) -> None:
        ingress = self.ingress
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.removeprefix(ingress.prefix)
        if ingress.token and self.headers.get("Authorization") != f"Bearer {ingress.token}":
            self._answer(401, b"<html>who are you?</html>", "text/html")
        elif not self.path.startswith(f"{ingress.prefix}/"):
            self._answer(404, b"<html>no such page</html>", "text/html")
        else:
            what = f"{self.command} {path.partition('?')[0]}"
            headers = {"Content-Type": "application/json"}
            answer = ingress.client.request(self.command, ingress.worker + path, content=body, headers=headers)
            ingress.passed.append(what)
            ingress.on_answer(what)
            # Who asked may be dead by now.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._answer(answer.status_code, answer.content, "application/json")

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = _pass_on

    def _answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if status != 204:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
