"""A front with stand-ins for MLflow's servers, and users who never stop asking."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from airflow_mlplatform.runtime.model_server import free_port
from airflow_mlplatform.runtime.processes import marked
from airflow_mlplatform.runtime.serving import FRONT_MARK, LocalServing, Outcome
from airflow_mlplatform.runtime.serving_files import ServedModel
from airflow_mlplatform.runtime.serving_folder import MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = (sys.executable, str(Path(__file__).with_name("front_with_fake_backends.py")))
PATIENCE = timedelta(seconds=60)


def eventually(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while not (result := condition()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)
    return result


def deploy(serving: LocalServing, folder: Path, version: str, name: str = "wine", **behaviour: Any) -> Outcome:
    return serving.wait(name, wish(serving, folder, version, name, **behaviour), PATIENCE)


def wish(
    serving: LocalServing,
    folder: Path,
    version: str,
    name: str = "wine",
    replicas: int = 1,
    ready_timeout: float = 30,
    **behaviour: Any,
) -> int:
    model = model_folder(folder, version, **behaviour)
    served = ServedModel(name="wine", version=version)
    return serving.apply(name, served, model, replicas=replicas, ready_timeout=timedelta(seconds=ready_timeout))


def model_folder(folder: Path, version: str, **behaviour: Any) -> Path:
    model = folder / f"model-{version}"
    model.mkdir(exist_ok=True)
    (model / "behaviour.json").write_text(json.dumps({"version": version, **behaviour}))
    return model


def processes(serving: LocalServing) -> set[int]:
    path = str(serving.folder.path)
    return {*marked(FRONT_MARK, path), *marked(MARK, path)}


def servers(serving: LocalServing) -> set[int]:
    return set(marked(MARK, str(serving.folder.path)))


def ask(serving: LocalServing, path: str = "ping", name: str = "wine") -> httpx.Response:
    return httpx.get(f"{serving.url(name)}/{path}", trust_env=False, timeout=30)


@dataclass
class Crowd:
    """Clients that ask an endpoint without a pause, each on its own connections, and note every answer."""

    url: str
    size: int = 4
    path: str = "invocations"
    versions: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Crowd:
        self._threads = [threading.Thread(target=self._ask) for _ in range(self.size)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not self._stop.is_set():
                try:
                    method = "POST" if self.path == "invocations" else "GET"
                    answer = client.request(method, f"{self.url}/{self.path}", content=b"{}")
                    answer.raise_for_status()
                    self.versions.append(answer.headers["x-mlplatform-model-version"])
                except httpx.HTTPError as error:
                    self.refused.append(repr(error))


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[LocalServing]:
    local = LocalServing(tmp_path / "state", f"127.0.0.1:{free_port()}", PROGRAM)
    yield local
    local.stop()
    assert not processes(local)
