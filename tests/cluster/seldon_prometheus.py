"""A real Prometheus on this machine that scrapes the predictors of a namespace, through the cluster's API server.

Debian's is built without Kubernetes' service discovery; so it asks this process which pods there are.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import threading
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.parts import program
from tests.services.ports import free_port
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["prometheus"]

GET_PROMETHEUS = "Prometheus: apt-get install prometheus"
ENGINE_PORT = 8000


def _targets(namespace: str, proxy: str) -> list[dict[str, Any]]:
    """The pods of predictors that run, each reached through the API server, with the labels that scrapes add."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    path = f"{pods}/{{}}:{ENGINE_PORT}/proxy/prometheus"
    found = httpx.get(f"http://{proxy}{pods}", params={"labelSelector": "seldon.io/model=true"}, timeout=10)
    running = [one["metadata"]["name"] for one in found.raise_for_status().json()["items"] if _runs(one)]
    return [
        {
            "targets": [proxy],
            "labels": {
                "__metrics_path__": path.format(pod),
                "namespace": namespace,
                "pod": pod,
                "instance": pod,
            },
        }
        for pod in running
    ]


def _runs(pod: dict[str, Any]) -> bool:
    return bool(pod["status"].get("phase") == "Running")


@contextmanager
def _discovery(targets: Callable[[], list[dict[str, Any]]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(targets()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            with suppress(BrokenPipeError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: it is asked each second."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def prometheus(namespace: str) -> Iterator[str]:
    """The address of a Prometheus that asks each predictor of a namespace once a second."""
    binary = program("prometheus", GET_PROMETHEUS)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(_process(["kubectl", "proxy", "--port=0"], log := folder / "proxy.log"))
        proxy = wait_for(lambda: re.findall(r"Starting to serve on (\S+)", log.read_text("utf-8")), "for kubectl proxy")
        found = stack.enter_context(_discovery(lambda: _targets(namespace, proxy[0])))
        job = {"job_name": "seldon", "http_sd_configs": [{"url": found, "refresh_interval": "1s"}]}
        config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]}
        # JSON is YAML too.
        (folder / "prometheus.yml").write_text(json.dumps(config), "utf-8")
        address = f"127.0.0.1:{free_port()}"
        command = [binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        log = folder / "prometheus.log"
        process = stack.enter_context(_process([*command, f"--web.listen-address={address}"], log))
        wait_for(lambda: _ready(f"http://{address}", process, log), "for Prometheus")
        yield f"http://{address}"


def _ready(url: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text("utf-8")
    try:
        return httpx.get(f"{url}/-/ready", timeout=1).status_code == 200
    except httpx.TransportError:
        return False
