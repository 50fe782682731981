"""Real parts for the ETL tests: a throw-away MinIO, and a bench to run steps on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from airflow_mlplatform.steps.engine import Engine
from airflow_mlplatform.steps.login import Login
from airflow_mlplatform.steps.storage import Location, S3Options, Storage
from airflow_mlplatform.steps.workbench import Run, Workbench
from tests.parts import program
from tests.services.ports import free_port

GET_MINIO = "the minio binary, on PATH or in ~/.cache/local-cluster/bin"


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Login]:
    """A MinIO of our own, as a login of type aws."""
    binary = program("minio", GET_MINIO, str(Path.home() / ".cache/local-cluster/bin"))
    address = f"127.0.0.1:{free_port()}"
    server = subprocess.Popen(
        [
            binary,
            "server",
            str(tmp_path_factory.mktemp("minio")),
            "--address",
            address,
            "--console-address",
            "127.0.0.1:0",
        ],
        env={**os.environ, "MINIO_ROOT_USER": "pond-key", "MINIO_ROOT_PASSWORD": "pond-secret"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:  # waits for the port with growing pauses
            client.get(f"http://{address}/minio/health/live").raise_for_status()
        yield Login("pond", "aws", user="pond-key", password="pond-secret", extra={"endpoint_url": f"http://{address}"})
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def bucket(minio: Login) -> Location:
    """An empty bucket."""
    from pyarrow import fs

    name = f"b{uuid4().hex[:12]}"
    options = S3Options.of(minio)
    maker = fs.S3FileSystem(
        access_key=minio.user, secret_key=minio.password, endpoint_override=options.endpoint, region="us-east-1",
        allow_bucket_creation=True,
    )  # fmt: skip
    maker.create_dir(name)
    return Location(f"s3://{name}", name, options)


def objects(place: Location) -> list[str]:
    """Keys of all objects below a place that hold something."""
    from pyarrow import fs

    found = place.filesystem.get_file_info(fs.FileSelector(place.path, recursive=True, allow_not_found=True))
    return sorted(info.path[len(place.path) + 1 :] for info in found if info.is_file and info.size)


@dataclass(frozen=True)
class Site:
    """Where a test works: a pond, a folder for sources, and logins."""

    folder: Path
    logins: dict[str, Login]
    pond: str = ""
    scratch: Path | None = None

    def __post_init__(self) -> None:
        (self.folder / "src").mkdir(exist_ok=True)

    @contextmanager
    def bench(self, run: str = "run-1", memory: str | None = "1Gi") -> Iterator[Workbench]:
        pond = self.pond or str(self.folder / "pond")
        storage = Storage(
            pond, self.logins.__getitem__, "pond" if "pond" in self.logins else "", str(self.folder / "src")
        )
        with Engine(memory, self.scratch or self.folder / "scratch") as engine:
            yield Workbench(engine, storage, Run("dag", run), str(self.folder / "src"))

    def rows(self, uri: str, sql: str = "SELECT * FROM input") -> list[tuple[Any, ...]]:
        """Read a place the way pipelines do."""
        from airflow_mlplatform.specs.etl import FilesSource
        from airflow_mlplatform.steps.files import read_files

        with self.bench("reader") as bench:
            table = read_files(FilesSource(uri=uri), bench)
            return bench.engine.rows(f"WITH input AS ({table.query}) {sql}")

    def run(self, extract: Any, load: Any, transform: Any = (), checks: Any = None, *, run: str = "run-1") -> Any:
        """Run a whole pipeline."""
        with self.bench(run) as bench:
            return pipeline(extract, load, transform, checks).run(bench)


def pipeline(extract: Any, load: Any, transform: Any = (), checks: Any = None) -> Any:
    from airflow_mlplatform.specs.etl import Checks, Load, Source, Transform
    from airflow_mlplatform.steps.pipeline import Pipeline

    return Pipeline(
        [Source.model_validate(one) for one in (extract if isinstance(extract, list) else [extract])],
        [Transform.model_validate(one) for one in transform],
        Checks.model_validate(checks) if checks else None,
        Load.model_validate(load if isinstance(load, dict) else {"uri": load}),
    )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A place to work without any service."""
    return Site(tmp_path, {})


@pytest.fixture
def s3_site(tmp_path: Path, minio: Login, bucket: Location) -> Site:
    """A place to work whose pond is a bucket."""
    return Site(tmp_path, {"pond": minio}, f"s3://{bucket.path}/pond")


def start_python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Run Python code in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


Maker = Callable[..., Any]
