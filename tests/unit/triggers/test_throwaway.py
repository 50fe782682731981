"""A throw-away that is asked: what becomes of right, wrong and missing answers. Its life is in tests/cluster."""

from __future__ import annotations

import json
import logging
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlplatform.exceptions import CheckFailed, ProcessFailed
from airflow_mlplatform.serving.model import ServableModel
from airflow_mlplatform.serving.seen import Failure, Seen
from airflow_mlplatform.serving.throwaway import ThrowAway
from airflow_mlplatform.specs.deployment import Serving
from airflow_mlplatform.steps.preflight import Example, ModelCard
from airflow_mlplatform.triggers.throwaway import Crash, Trial, crashed
from tests.services.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = {"dataframe_split": {"columns": ["a"], "data": [[1], [2]]}}
CARD = ModelCard(Example(json.dumps(EXAMPLE).encode(), 2), [{"type": "long"}], [], "3.12.1")
POD = {"metadata": {"name": "pod"}}
NO_MODULE = "ModuleNotFoundError: No module named 'xgboost'"


class Predictor:
    """Something that answers where a predictor would."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] = (200, b"")
        self.asked: list[tuple[str, Any]] = []
        predictor = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                predictor.asked.append((self.path, json.loads(body)))
                status, answer = predictor.answer
                if status == 0:
                    return
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Predictor]:
    made = Predictor()
    monkeypatch.setattr(ThrowAway, "url", f"http://127.0.0.1:{made.server.server_address[1]}")
    yield made
    made.server.shutdown()


class Pods:
    """One pod, with a log."""

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)
        self.formers: list[bool] = []

    async def select(self, labels: dict[str, str]) -> list[Any]:
        return [POD]

    async def last_lines(self, name: str, container: str, count: int, *, former: bool = False) -> list[str]:
        self.formers.append(former)
        return self.lines


def trial(*lines: str, protocol: str = "v2") -> Trial:
    serving = Serving.model_validate({"name": "wine", "namespace": "models", "protocol": protocol})
    cluster: Any = SimpleNamespace(pods=Pods(*lines), seldon=SimpleNamespace(namespace="models"))
    return Trial(cluster, ThrowAway(serving, ServableModel(uri="s3://m"), "0" * 32), CARD, logging.getLogger())


def v2(data: list[Any]) -> bytes:
    return json.dumps({"outputs": [{"name": "output-1", "shape": [len(data), 1], "data": data}]}).encode()


async def test_a_right_answer(predictor: Predictor) -> None:
    predictor.answer = (200, v2([0, 1]))
    assert (await trial().ask(5))[0] == 2
    path, body = predictor.asked[0]
    assert (path, body["inputs"][0]["data"]) == ("/v2/models/model/infer", [1, 2])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, v2([0])), "2 rows were sent and 1 came back"),
        ((200, v2(["red", "white"])), 'the output is "red", but its signature says long'),
        ((200, b"{}"), "none of protocol v2"),
        ((500, b'{"error":"KeyError: 1"}'), "own input example with HTTP 500: KeyError: 1$"),
        (
            (500, f'{{"error":"{NO_MODULE}"}}'.encode()),
            "^the image lacks the package xgboost, .*HTTP 500: Module",
        ),
        ((404, b"404 page not found"), "HTTP 404: 404 page not found"),
    ],
)
async def test_wrong_answers(predictor: Predictor, answer: tuple[int, bytes], words: str) -> None:
    predictor.answer = answer
    with pytest.raises(CheckFailed, match=words):
        await trial().ask(5)


async def test_columns_that_get_lost(predictor: Predictor) -> None:
    predictor.answer = (500, b'{"status":{"info":"Model is missing inputs [a]","status":1}}')
    with pytest.raises(CheckFailed, match="xtype: DataFrame"):
        await trial(protocol="seldon").ask(5)


async def test_no_answer(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor.answer = (0, b"")
    with pytest.raises(ProcessFailed, match="broke off"):
        await trial().ask(5)
    monkeypatch.setattr(ThrowAway, "url", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ProcessFailed, match="the triggerer must run in the cluster"):
        await trial().ask(0.1)


@pytest.mark.parametrize(
    ("lasting", "lines", "error", "words"),
    [
        (False, ["Traceback", NO_MODULE], CheckFailed, "^the image lacks the package xgboost.*ended with exit code 1"),
        (False, ["sorry"], ProcessFailed, "(?s)^ended with exit code 1.*The end of the server's log:\nsorry"),
        (True, ["sorry"], CheckFailed, "^ended with exit code 1"),
    ],
)
async def test_servers_that_fail(lasting: bool, lines: list[str], error: type[Exception], words: str) -> None:
    failure = Failure("ExitCode", "ended with exit code 1", lasting, pod="pod", container="model", former=True)
    tried = trial(*lines)
    with pytest.raises(error, match=words):
        raise await tried._failed(failure)
    assert tried.cluster.pods.formers == [True]


def pod(restarts: int = 0, **state: Any) -> dict[str, Any]:
    return POD | {"status": {"containerStatuses": [{"name": "model", "restartCount": restarts} | state]}}


TERMINATED: dict[str, Any] = {"terminated": {"exitCode": 1}}


@pytest.mark.parametrize(
    ("seen", "crash"),
    [
        (POD, None),
        (pod(state={"running": {}}), None),
        (pod(state={"waiting": {"reason": "PodInitializing"}}), None),
        (pod(state=TERMINATED), Crash(1, runs_again=False)),
        (pod(1, state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=TERMINATED), Crash(2, runs_again=False)),
        (pod(1, state={"running": {}}, lastState=TERMINATED), Crash(1, runs_again=True)),
    ],
)
def test_crashes(seen: dict[str, Any], crash: Crash | None) -> None:
    assert crashed(seen, "model") == crash


async def test_a_server_that_cannot_load_the_model_is_not_waited_for() -> None:
    seen = Seen(None, pods=[pod(1, state={"running": {}})])
    with pytest.raises(CheckFailed, match="lacks the package xgboost"):
        await trial(NO_MODULE)._look_at_crashes(seen, "1 of 1 pods")
    await trial("S3 is away")._look_at_crashes(seen, "1 of 1 pods")
