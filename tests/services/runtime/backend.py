"""A stand-in for MLflow's scoring process: a real HTTP server that starts at once and misbehaves as its folder tells.

The model folder holds ``behaviour.json``: ``version`` (what it answers), ``start`` (seconds until it listens), ``exit``
(exit code instead of serving), ``silent`` (never listens), ``status`` (of answers to POST), ``delay`` (seconds before
them), ``dies`` (at the first POST). Once there is a file ``bad`` in the folder, answers to POST are 500.
"""

from __future__ import annotations

import http.server
import json
import os
import sys
import time
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two packets; the second must not wait for the first one's acknowledgement.
    disable_nagle_algorithm = True
    version = ""
    status = 200
    delay = 0.0
    dies = False
    bad = Path("bad")

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/die":
            os._exit(9)
        self._answer(self.path)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        order = json.loads(body or b"{}")
        if "wait_for" in order:
            Path(order["wait_for"] + ".started").touch()
            while not Path(order["wait_for"]).exists():
                time.sleep(0.02)
        if self.dies:
            os._exit(9)
        time.sleep(self.delay)
        self._answer(self.path, len(body), 500 if self.bad.exists() else self.status)

    def _answer(self, path: str, size: int = 0, status: int = 200) -> None:
        told = {"version": self.version, "pid": os.getpid(), "path": path, "size": size, "headers": dict(self.headers)}
        content = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def main() -> None:
    behaviour = json.loads((Path(sys.argv[1]) / "behaviour.json").read_text())
    Handler.version = behaviour["version"]
    Handler.status, Handler.delay = behaviour.get("status", 200), behaviour.get("delay", 0.0)
    Handler.dies, Handler.bad = behaviour.get("dies", False), Path(sys.argv[1]) / "bad"
    if "exit" in behaviour:
        print("ModuleNotFoundError: No module named 'lightgbm'", flush=True)
        sys.exit(behaviour["exit"])
    while behaviour.get("silent"):
        time.sleep(1)
    time.sleep(behaviour.get("start", 0))
    Server(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()


if __name__ == "__main__":
    main()
