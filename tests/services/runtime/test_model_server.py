"""One model server process: ready, dead, slow, or somebody else's; and what its log says."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from airflow_mlplatform.exceptions import ConfigurationError, ServingFailed
from airflow_mlplatform.runtime.model_server import (
    Invocation,
    ModelServer,
    ModelUnfit,
    free_port,
    mlflow_scoring,
)
from airflow_mlplatform.runtime.server_log import explain, tail
from tests.services.runtime.conftest import eventually
from tests.services.runtime.front_with_fake_backends import fake_backend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHILD_THAT_WILL_NOT_GO = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, sys.argv[0], "child"])
print("here", flush=True)
time.sleep(600)
"""


@pytest.fixture
def started() -> Iterator[list[ModelServer]]:
    servers: list[ModelServer] = []
    yield servers
    for server in servers:
        asyncio.run(server.stop(grace=0))


def start(tmp_path: Path, started: list[ModelServer], port: int = 0, **behaviour: Any) -> ModelServer:
    (tmp_path / "behaviour.json").write_text(json.dumps({"version": "1", **behaviour}))
    port = port or free_port()
    started.append(ModelServer.start(fake_backend(tmp_path, port, "local"), port, tmp_path / "log", {}))
    return started[-1]


def in_seconds(seconds: float) -> float:
    return time.monotonic() + seconds


async def test_it_is_ready_when_it_answers(tmp_path: Path, started: list[ModelServer]) -> None:
    server = start(tmp_path, started)
    await server.wait_ready(in_seconds(60))
    assert server.alive()
    await server.stop()
    assert not server.alive()


async def test_a_known_reason_of_death_is_told_and_lasts(tmp_path: Path, started: list[ModelServer]) -> None:
    with pytest.raises(ModelUnfit, match=r"ended with exit code 3 before it was ready: .*'lightgbm'"):
        await start(tmp_path, started, exit=3).wait_ready(in_seconds(60))
    assert issubclass(ModelUnfit, ConfigurationError)


async def test_an_unknown_reason_of_death_may_pass(tmp_path: Path, started: list[ModelServer]) -> None:
    server = start(tmp_path, started, silent=True)
    os.kill(server.process.pid, signal.SIGKILL)
    with pytest.raises(ServingFailed, match="by signal 9") as caught:
        await server.wait_ready(in_seconds(60))
    assert not isinstance(caught.value, ConfigurationError)


async def test_a_server_that_never_answers(tmp_path: Path, started: list[ModelServer]) -> None:
    with pytest.raises(ServingFailed, match=r"not ready in time\nThe end of its log .*\n\(empty\)"):
        await start(tmp_path, started, silent=True).wait_ready(in_seconds(0.3))


async def test_somebody_else_on_the_port_is_not_our_server(tmp_path: Path, started: list[ModelServer]) -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        server = start(tmp_path, started, port=other.server_port, silent=True)
        with pytest.raises(ServingFailed, match="not ready in time"):
            await server.wait_ready(in_seconds(1))
        other.shutdown()


async def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ServingFailed, match="/no/such/server"):
        ModelServer.start(Invocation(("/no/such/server",)), free_port(), tmp_path / "log", {})


async def test_stopping_takes_stubborn_children_along(tmp_path: Path, started: list[ModelServer]) -> None:
    script = tmp_path / "stubborn.py"
    script.write_text(CHILD_THAT_WILL_NOT_GO)
    log = tmp_path / "log"
    server = ModelServer.start(Invocation((sys.executable, str(script))), free_port(), log, {})
    started.append(server)
    eventually(lambda: log.read_text().count("here") == 2, "both run")
    (child,) = psutil.Process(server.process.pid).children()
    await server.stop(grace=0.2)
    assert not server.alive()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_this_python_serves_without_the_detour_over_mlflow_s_command(tmp_path: Path) -> None:
    invocation = mlflow_scoring(tmp_path, 1234, "local")
    assert invocation.argv[:4] == (sys.executable, "-m", "uvicorn", "mlflow.pyfunc.scoring_server.app:app")
    assert invocation.env["__pyfunc_model_path__"] == str(tmp_path)
    assert "1234" in invocation.argv


def test_other_environments_are_mlflow_s_to_build(tmp_path: Path) -> None:
    argv = mlflow_scoring(tmp_path, 1234, "uv").argv
    assert argv[1:5] == ("-m", "mlflow", "models", "serve")
    assert argv[argv.index("--env-manager") + 1] == "uv"


@pytest.mark.parametrize(
    ("log", "words", "lasting"),
    [
        ("ModuleNotFoundError: No module named 'xgboost'", "'xgboost' and the serving environment lacks it", True),
        ("ImportError: cannot import name 'x' from 'sklearn.y' (/a/b)", "another version of 'sklearn.y'", True),
        ("ValueError: unsupported pickle protocol: 5", "pickled by another Python", True),
        ("TypeError: code() argument 13 must be str, not int", "pickled by another Python", True),
        ("AttributeError: Can't get attribute 'A' on <module '__main__'>", "does not fit the installed packages", True),
        ('mlflow...: Could not find an "MLmodel" configuration file at /x', "there is no model", True),
        ("MemoryError", "not enough memory", False),
        ("[Errno 98] error while attempting to bind on address: address already in use", "took the port", False),
        (
            (
                "WARNING: The version of Python that the model was saved in, `Python 3.9`, differs from the version of "
                "Python that is currently running, `Python 3.11.7`, and may be incompatible"
            ),
            "made with Python 3.9 and this is Python 3.11.7",
            False,
        ),
        (
            (
                "Detected one or more mismatches between the model's dependencies and the current Python environment:\n"
                " - scikit-learn (current: 1.5, required: scikit-learn==1.6)\nTo fix"
            ),
            "scikit-learn (current: 1.5, required: scikit-learn==1.6); install",
            False,
        ),
    ],
)
def test_explanations(log: str, words: str, lasting: bool) -> None:
    cause = explain(f"Traceback…\n{log}\nmore")
    assert cause is not None
    assert words in cause.text
    assert cause.lasting is lasting


def test_a_log_that_says_nothing_known() -> None:
    assert explain("something else") is None


def test_the_tail_of_a_log_has_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log) == ""
    log.write_bytes(b"".join(b"line %d \xff\n" % number for number in range(1000)))
    lines = tail(log, 100).splitlines()
    assert lines[-1].startswith("line 999")
    assert all(line.startswith("line ") for line in lines)
