"""A threaded HTTP server, and requests passed on."""

from __future__ import annotations

import http.client
import json
import os
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

Object = dict[str, Any]
DROPPED = {"connection", "content-length", "host", "transfer-encoding", "server", "date"}


class Answer(NamedTuple):
    """What is answered.

    :param headers: beside the length.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class Request(NamedTuple):
    """What is asked."""

    method: str
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...]


class Server(ThreadingHTTPServer):
    """Many connections at once."""

    daemon_threads = True
    request_queue_size = 128


def told(status: int, body: object) -> Answer:
    """An answer in JSON."""
    return Answer(status, json.dumps(body).encode(), (("Content-Type", "application/json"),))


def passed_on(request: Request, host: str, port: int, timeout: float = 60.0) -> Answer:
    """Send a request to another server and return what it answers.

    :raises OSError: if it does not answer.
    """
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        headers = {key: value for key, value in request.headers if key.lower() not in DROPPED}
        connection.request(request.method, request.path, request.body or None, headers)
        found = connection.getresponse()
        kept = tuple((key, value) for key, value in found.getheaders() if key.lower() not in DROPPED)
        return Answer(found.status, found.read(), kept)
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()


def serve(port: int, answer: Any) -> None:
    """Answer requests for ever.

    :param answer: makes of a `Request` an `Answer`.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = answer(Request(self.command, self.path, body, tuple(self.headers.items())))
            self.send_response(found.status)
            for key, value in (*found.headers, ("Content-Length", str(len(found.body)))):
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(found.body)

        do_GET = do_POST = do_PUT = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            """Nothing: pods are asked often."""

    # Linux shields process 1 from a SIGTERM that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Server(("", port), Handler).serve_forever()
