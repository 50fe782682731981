"""MinIO and MLflow tell what rules and dashboards ask of them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.parts import program, require
from tests.services.etl_parts import GET_MINIO
from tests.services.mlflow_server import MlflowServer
from tests.services.ports import free_port
from tests.unit.stack.queries import queries
from tests.waiting import wait_for

# What the chart of MinIO has scraped.
MINIO_PAGES = ("/minio/v2/metrics/cluster", "/minio/v2/metrics/node")


class MeasuredMlflow(MlflowServer):
    """A server that tells its metrics."""

    def _command(self) -> list[str]:
        return [*super()._command(), "--expose-prometheus", str(self.folder / "metrics")]


@pytest.fixture
def minio(tmp_path: Path) -> Iterator[str]:
    """Address of a MinIO that tells its metrics to everybody within reach, as in the stack."""
    command = program("minio", GET_MINIO, str(Path.home() / ".cache/local-cluster/bin"))
    address = f"127.0.0.1:{free_port()}"
    environment = os.environ | {"MINIO_PROMETHEUS_AUTH_TYPE": "public"}
    with (tmp_path / "log").open("wb") as log:
        arguments = ["server", str(tmp_path / "data"), "--address", address, "--console-address", "127.0.0.1:0"]
        process = subprocess.Popen([command, *arguments], env=environment, stdout=log, stderr=log)
    try:
        wait_for(lambda: told(f"http://{address}{MINIO_PAGES[0]}"), f"for MinIO, whose log is {tmp_path / 'log'}")
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def asked(prefix: str) -> set[str]:
    """Names that queries ask for."""
    return {name for query in queries() for name in re.findall(rf"\b{prefix}_\w+", query.expr)}


def told(url: str) -> set[str]:
    """Names that a page has."""
    try:
        lines = httpx.get(url, timeout=10).text.splitlines()
    except httpx.TransportError:
        return set()
    return {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}


def test_minio_tells_what_is_asked_of_it(minio: str) -> None:
    assert asked("minio")
    wait_for(
        lambda: asked("minio") <= {name for page in MINIO_PAGES for name in told(minio + page)},
        f"for {sorted(asked('minio'))}",
    )


@pytest.mark.long
def test_mlflow_tells_what_is_asked_of_it(tmp_path: Path) -> None:
    require(importlib.util.find_spec("prometheus_flask_exporter"), "pip install prometheus-flask-exporter")
    server = MeasuredMlflow(tmp_path).start()
    try:
        httpx.get(f"{server.url}/api/2.0/mlflow/runs/get", params={"run_id": "none"})
        assert asked("mlflow_http")
        assert asked("mlflow_http") <= told(f"{server.url}/metrics")
    finally:
        server.stop()
