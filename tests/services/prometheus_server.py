"""A real Prometheus that scrapes, several times a second, executors which the tests play."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest
from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest

from airflow_mlplatform.clients.http import Endpoint
from airflow_mlplatform.clients.prometheus import PrometheusEndpoint
from tests.parts import program
from tests.services.ports import free_port
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

GET_PROMETHEUS = "Prometheus: apt-get install prometheus (and stop the service it starts, the tests run their own)"
# On a busy machine a page may take its time; a scrape without an answer would end all series for a moment.
SCRAPE = "500ms"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
SERVER = "seldon_api_executor_server_requests_seconds"
LABELS = ("deployment_name", "predictor_name", "predictor_version", "service", "method", "code")


@dataclass
class Executor:
    """The metrics page of one executor: names, labels and buckets are those that 1.17.1 was recorded with.

    :param deployment: name of the SeldonDeployment.
    :param predictor: name of the predictor.
    :param fixed: a page that is served as it is, instead.
    """

    deployment: str = ""
    predictor: str = "candidate"
    fixed: bytes = b""
    _registry: CollectorRegistry = field(init=False)
    _requests: Histogram = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin to count anew, as after a crash of the container."""
        disable_created_metrics()
        self._registry = CollectorRegistry()
        self._requests = Histogram(SERVER, "As recorded.", LABELS, registry=self._registry, buckets=BUCKETS)

    def answers(
        self, count: int, seconds: float = 0.02, code: str = "200", service: str = "predictions", method: str = "post"
    ) -> Self:
        """Answer requests."""
        labelled = self._requests.labels(self.deployment, self.predictor, "", service, method, code)
        for _ in range(count):
            labelled.observe(seconds)
        return self

    def page(self) -> bytes:
        """What a scrape finds."""
        return self.fixed or generate_latest(self._registry)


@dataclass
class Pods:
    """All pods, and their metrics as they are scraped: one page a way of scraping.

    Prometheus takes its time, 5 s, to look for new targets; so the pods share them and bear their labels themselves.
    """

    pages: dict[str, list[tuple[Executor, str]]] = field(default_factory=lambda: {"pods": [], "service": []})

    def add(self, page: str, executor: Executor, labels: dict[str, str]) -> None:
        """Add a pod to a page, with what the scrape knows of it."""
        known = {"instance": f"pod-{id(executor)}"} | labels
        self.pages[page].append((executor, ",".join(f'{name}="{value}"' for name, value in known.items())))

    def remove(self, executor: Executor) -> None:
        """Let a pod be gone."""
        for page in self.pages.values():
            page[:] = [(known, labels) for known, labels in page if known is not executor]

    def page(self, name: str) -> bytes:
        """What a scrape finds."""
        lines = (
            line.replace(b"{", f"{{{labels},".encode(), 1)
            for executor, labels in self.pages[name]
            for line in executor.page().splitlines()
            if b"{" in line
        )
        return b"\n".join(lines) + b"\n"

    @cached_property
    def server(self) -> ThreadingHTTPServer:
        """The server of the pages, which runs."""
        pods = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = pods.page(self.path.strip("/"))
                with suppress(BrokenPipeError):  # Prometheus waits no longer than for the next scrape.
                    self.send_response(200)
                    self.send_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        return server


@dataclass
class PrometheusServer:
    """One Prometheus.

    :param root: an empty folder for its data.
    :param arguments: further arguments of the program.
    :param endpoint: how it is reached, if not by plain HTTP.
    :param targets: addresses that are scraped too.
    :param configuration: more of its configuration: rules, and who is told of alerts.
    """

    root: Path
    arguments: tuple[str, ...] = ()
    endpoint: PrometheusEndpoint | None = None
    targets: tuple[str, ...] = ()
    configuration: Mapping[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    pods: Pods = field(default_factory=Pods)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def reached(self) -> PrometheusEndpoint:
        """How it is reached."""
        return self.endpoint or PrometheusEndpoint(Endpoint(self.url))

    def start(self) -> Self:
        """Start it and wait until it answers."""
        config = {
            "global": {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE},
            "scrape_configs": [
                self._job("pods", honor_labels=True),
                self._job("service", service="any-service"),
                {"job_name": "targets", "static_configs": [{"targets": list(self.targets)}]},
            ],
            **self.configuration,
        }
        (self.root / "prometheus.yml").write_text(json.dumps(config))
        command = [
            program("prometheus", GET_PROMETHEUS),
            f"--config.file={self.root}/prometheus.yml",
            f"--storage.tsdb.path={self.root}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
            *self.arguments,
        ]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self._ready, f"for Prometheus, see {self.root}/log")
        return self

    def _ready(self) -> bool:
        assert self._process
        assert self._process.poll() is None, (self.root / "log").read_text()
        try:
            options = self.reached.options()
            return httpx.Client(**options).get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """End it."""
        if self._process:
            self._process.terminate()
            self._process.wait(30)

    def _job(self, page: str, *, honor_labels: bool = False, **labels: str) -> dict[str, object]:
        targets = [{"targets": [f"127.0.0.1:{self.pods.server.server_address[1]}"], "labels": labels}]
        return {
            "job_name": page,
            "metrics_path": f"/{page}",
            "honor_labels": honor_labels,
            "static_configs": targets,
        }

    def scrape(self, executor: Executor, **labels: str) -> Executor:
        """Let it scrape the pod of an executor from now on.

        :param labels: what the scrape adds.
        """
        self.pods.add("pods", executor, labels)
        return executor

    def scrape_service(self, executor: Executor, **labels: str) -> Executor:
        """The same by way of a Service, whose name takes the label `service`."""
        self.pods.add("service", executor, labels)
        return executor


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """One for all tests; name deployments so that tests do not meet."""
    server = PrometheusServer(tmp_path_factory.mktemp("prometheus"))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def own_prometheus(tmp_path: Path) -> Iterator[PrometheusServer]:
    """One of this test alone, not started yet."""
    server = PrometheusServer(tmp_path)
    try:
        yield server
    finally:
        server.stop()
