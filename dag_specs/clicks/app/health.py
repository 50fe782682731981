"""What Kubernetes and Prometheus ask: /readyz, /healthz, /metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

__all__ = ["Health"]

SILENCE_SECONDS = 60.0


class Health:
    """Ready once it is a member of the group; healthy as long as its loop turns."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._events = Counter("clicks_events", "Order events counted.", registry=self.registry)
        self._joins = Counter("clicks_joins", "How often it was given partitions.", registry=self.registry)
        self._turned = time.monotonic()
        self._joined = False

    def alive(self) -> None:
        """Say that the loop turned."""
        self._turned = time.monotonic()

    def joined(self) -> None:
        """Say that it has become a member of the group."""
        self._joined = True
        self._joins.inc()

    def counted(self, events: int) -> None:
        """Say that events were counted and committed."""
        self._events.inc(events)

    def answer(self, path: str) -> tuple[int, bytes]:
        """Return status and body for a path."""
        if path == "/metrics":
            return 200, generate_latest(self.registry)
        well = {"/readyz": self._joined, "/healthz": time.monotonic() - self._turned < SILENCE_SECONDS}
        if path not in well:
            return 404, b"ask for /readyz, /healthz or /metrics\n"
        return (200, b"yes\n") if well[path] else (503, b"no\n")

    @contextmanager
    def served(self, port: int) -> Iterator[int]:
        """Answer on a port until the block ends; yields the port."""
        health = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = health.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", CONTENT_TYPE_LATEST if self.path == "/metrics" else "text/plain")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Stay silent: probes come every few seconds."""

        server = ThreadingHTTPServer(("", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
