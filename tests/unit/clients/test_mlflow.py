"""The MLflow client against answers as MLflow gives them, and against everything else that may stand at its address."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from airflow_mlplatform.clients.http import Operation, awaitable, blocking
from airflow_mlplatform.clients.mlflow import AsyncMlflowClient, Endpoint, MlflowClient
from airflow_mlplatform.clients.mlflow_operations import quoted
from airflow_mlplatform.exceptions import ConfigurationError, NotFound, ServiceRefused, ServiceUnavailable

RUN: dict[str, Any] = {
    "info": {
        "run_id": "r1",
        "experiment_id": "7",
        "run_name": "wise-owl-1",
        "status": "FINISHED",
        "start_time": 1767225600000,
        "end_time": 1767225601500,
        "artifact_uri": "mlflow-artifacts:/7/r1/artifacts",
    },
    "data": {
        "params": [{"key": "C", "value": "1"}, {"key": "empty"}],
        "metrics": [{"key": "acc", "value": 0.5}, {"key": "loss", "value": "NaN"}, {"key": "big", "value": "Infinity"}],
        "tags": [{"key": "mlplatform.key", "value": "k"}],
    },
    "outputs": {"model_outputs": [{"model_id": "m-1", "step": 0}, {"model_id": "m-2", "step": 0}]},
}
VERSION = {"name": "wine", "version": "3", "creation_timestamp": 1767225600000, "source": "models:/m-2", "run_id": "r1"}
MISSING = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Run with id=x not found"}
EXISTS = {"error_code": "RESOURCE_ALREADY_EXISTS", "message": "taken"}


def client(handler: Any, **endpoint: Any) -> MlflowClient:
    return MlflowClient(Endpoint("http://mlflow/base/", **endpoint), httpx.MockTransport(handler))


def answering(status: int, **content: Any) -> MlflowClient:
    return client(lambda _: httpx.Response(status, **content))


def routes(**answers: Any) -> Any:
    """Answer by the last parts of the path; a list is answered one after the other."""

    def handler(request: httpx.Request) -> httpx.Response:
        name = request.url.path.removeprefix("/base/api/2.0/mlflow/").replace("/", "_").replace("-", "_")
        answer = answers[name].pop(0) if isinstance(answers[name], list) else answers[name]
        return httpx.Response(400 if "error_code" in answer else 200, json=answer)

    return handler


def test_a_run_is_parsed() -> None:
    run = client(routes(runs_get={"run": RUN})).get_run("r1")
    assert run.start_time == datetime(2026, 1, 1, tzinfo=UTC)
    assert (run.status, run.active, run.model_ids) == ("FINISHED", False, ("m-1", "m-2"))
    assert run.params == {"C": "1", "empty": ""}
    assert run.metrics["acc"] == 0.5
    assert math.isnan(run.metrics["loss"])
    assert math.isinf(run.metrics["big"])


def test_a_run_that_has_logged_nothing_yet() -> None:
    bare = {
        "info": {"run_id": "r", "experiment_id": "1", "status": "RUNNING", "start_time": 1},
        "data": {},
        "inputs": {},
    }
    run = client(routes(runs_get={"run": bare})).get_run("r")
    assert (run.active, run.end_time, run.metrics, run.model_ids) == (True, None, {}, ())


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_not_now(status: int) -> None:
    with pytest.raises(ServiceUnavailable, match=str(status)):
        answering(status, text="<html>upstream</html>").get_run("r1")


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("refused"), httpx.ReadTimeout(""), httpx.ConnectTimeout(""), httpx.RemoteProtocolError("x")],
)
def test_no_answer(error: httpx.TransportError) -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(ServiceUnavailable, match=r"http://mlflow/base.* does not answer"):
        client(broken).get_run("r1")


def test_not_found_keeps_mlflows_words() -> None:
    with pytest.raises(NotFound, match="RESOURCE_DOES_NOT_EXIST: Run with id=x not found"):
        answering(404, json=MISSING).get_run("x")


@pytest.mark.parametrize(
    ("status", "content", "words"),
    [
        (400, {"json": {"error_code": "INVALID_PARAMETER_VALUE", "message": "bad"}}, "INVALID_PARAMETER_VALUE: bad"),
        (401, {"text": "You are not authenticated"}, "correct login, password or token"),
        (403, {"text": "Permission denied"}, "correct login, password or token"),
        (404, {"text": "<html>"}, "names MLflow's own address"),
        (200, {"text": "<html>a login page"}, "without JSON"),
        (200, {"json": ["a list"]}, "without JSON"),
        (302, {"headers": {"location": "/login"}}, "302"),
    ],
)
def test_refused(status: int, content: dict[str, Any], words: str) -> None:
    with pytest.raises(ServiceRefused, match=words) as caught:
        answering(status, **content).get_run("x")
    assert not isinstance(caught.value, NotFound), "a wrong address must not look like a run that is not there"


@pytest.mark.parametrize("url", ["mlflow:5000", "no scheme", "ftp://mlflow", "http://[broken"])
def test_an_address_that_is_none_is_no_outage(url: str) -> None:
    with pytest.raises(ConfigurationError, match="address"), MlflowClient(Endpoint(url)) as broken:
        broken.get_run("r1")


def test_credentials_are_sent_and_never_shown() -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(403, text="no")

    for login in ({"token": "t0ken"}, {"login": "ann", "password": "s3cret"}, {"login": "ann", "token": "t0ken"}):
        connected = client(handler, **login)
        with pytest.raises(ServiceRefused) as caught:
            connected.get_run("r1")
        for text in (repr(connected), repr(connected.endpoint), str(caught.value)):
            assert "s3cret" not in text
            assert "t0ken" not in text
    assert seen == ["Bearer t0ken", "Basic YW5uOnMzY3JldA==", "Bearer t0ken"]


def test_the_loser_of_a_race_for_an_experiment_takes_the_winners() -> None:
    experiment = {"experiment": {"experiment_id": "5", "name": "wine", "lifecycle_stage": "active"}}
    racing = client(routes(experiments_get_by_name=[MISSING, experiment], experiments_create=EXISTS))
    assert racing.get_or_create_experiment("wine") == "5"


def test_a_deleted_experiment_says_how_to_get_it_back() -> None:
    deleted = {"experiment": {"experiment_id": "5", "name": "wine", "lifecycle_stage": "deleted"}}
    with pytest.raises(ConfigurationError, match="mlflow experiments restore -x 5"):
        client(routes(experiments_get_by_name=deleted)).get_or_create_experiment("wine")


def test_the_loser_of_a_race_for_a_registered_model_is_content() -> None:
    client(routes(registered_models_get=MISSING, registered_models_create=EXISTS)).get_or_create_registered_model(
        "wine"
    )


def test_runs_come_page_by_page() -> None:
    bodies: list[dict[str, Any]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        more = {"next_page_token": f"t{len(bodies)}"} if len(bodies) < 3 else {}
        return httpx.Response(200, json={"runs": [RUN] * 2, **more})

    assert len(client(handler).search_runs("7", "x")) == 6
    assert [body["page_token"] for body in bodies] == ["", "t1", "t2"]
    bodies.clear()
    assert len(client(handler).search_runs("7", limit=2)) == 2
    assert [body["max_results"] for body in bodies] == [2]


def test_model_versions_come_page_by_page_newest_first() -> None:
    pages = [
        {"model_versions": [VERSION | {"version": "9"}, VERSION], "next_page_token": "t"},
        {"model_versions": [VERSION | {"version": "10"}]},
    ]
    found = client(routes(model_versions_search=pages)).search_model_versions("wine")
    assert [version.version for version in found] == [10, 9, 3]


class TestAlias:
    """A missing alias, a missing model and an outage are three different things."""

    def model(self, *aliases: dict[str, str]) -> dict[str, Any]:
        return {"registered_model": {"name": "wine", "aliases": list(aliases)}}

    def test_found(self) -> None:
        answers = routes(
            registered_models_get=self.model({"alias": "a", "version": "1"}, {"alias": "champion", "version": "3"}),
            model_versions_get={"model_version": VERSION | {"aliases": ["champion"]}},
        )
        version = client(answers).get_version_by_alias("wine", "champion")
        assert version is not None
        assert (version.version, version.model_id, version.aliases) == (3, "m-2", ("champion",))

    @pytest.mark.parametrize("answer", [MISSING, {"registered_model": {"name": "wine"}}])
    def test_no_model_or_no_alias(self, answer: dict[str, Any]) -> None:
        assert client(routes(registered_models_get=answer)).get_version_by_alias("wine", "champion") is None

    def test_an_outage_is_no_missing_alias(self) -> None:
        with pytest.raises(ServiceUnavailable):
            answering(503).get_version_by_alias("wine", "champion")

    def test_a_wrong_address_is_no_missing_alias(self) -> None:
        with pytest.raises(ServiceRefused):
            answering(404, text="<html>").get_version_by_alias("wine", "champion")


def test_the_newest_complete_model_of_a_run() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/runs/get"):
            return httpx.Response(200, json={"run": RUN})
        model_id = request.url.path.rpartition("/")[2]
        status = {"m-1": "LOGGED_MODEL_READY", "m-2": "LOGGED_MODEL_PENDING"}[model_id]
        info = {"model_id": model_id, "status": status, "name": "model", "source_run_id": "r1"}
        return httpx.Response(200, json={"model": {"info": info}})

    connected = client(handler)
    model = connected.get_model_of_run(connected.get_run("r1"))
    assert model is not None
    assert model.uri == "models:/m-1", "m-2 was being uploaded when its process died"


def test_an_input_example_that_is_not_there_is_none_but_an_outage_is_not() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/directories"):
            return httpx.Response(200, json={"files": files})
        return httpx.Response(500, json={"error_code": "INTERNAL_ERROR", "message": "[Errno 2], or NoSuchKey, or …"})

    files = [{"path": "MLmodel", "is_dir": False}]
    assert client(handler).get_model_input_example("m-1") is None
    files.append({"path": "serving_input_example.json", "is_dir": False})
    with pytest.raises(ServiceUnavailable):
        client(handler).get_model_input_example("m-1")
    with pytest.raises(ServiceUnavailable):
        answering(503).get_model_input_example("m-1")


def test_long_tags_are_cut_before_mlflow_refuses_them() -> None:
    sent: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(200, json={})

    client(handler).set_run_tags("r1", {"why": "x" * 100_000})
    assert len(sent[0]["tags"][0]["value"]) == 5000


@pytest.mark.parametrize(("text", "shown"), [("a b", "'a b'"), ("it's", '"it\'s"'), ('"x"', "'\"x\"'")])
def test_quoted(text: str, shown: str) -> None:
    assert quoted(text) == shown


def test_text_that_cannot_be_quoted() -> None:
    with pytest.raises(ConfigurationError, match="rename"):
        quoted('it\'s "x"')


async def test_the_async_client_does_the_same() -> None:
    pages = [{"model_versions": [VERSION], "next_page_token": "t"}, {"model_versions": [VERSION | {"version": "4"}]}]
    transport = httpx.MockTransport(routes(model_versions_search=pages, runs_get=MISSING))
    async with AsyncMlflowClient(Endpoint("http://mlflow/base"), transport) as connected:
        assert [version.version for version in await connected.search_model_versions("wine")] == [4, 3]
        with pytest.raises(NotFound):
            await connected.get_run("x")


def test_both_clients_have_the_same_methods() -> None:
    own = {"close", "endpoint", "http"}
    public = [
        {name for name in dir(kind) if not name.startswith("_")} - own for kind in (MlflowClient, AsyncMlflowClient)
    ]
    assert public[0] == public[1]
    assert len(public[0]) > 20


def test_methods_keep_the_name_and_docstring_of_their_operation() -> None:
    def ask(name: str) -> Operation[str]:
        """Ask."""
        yield from ()
        return name

    for kind in (blocking, awaitable):
        assert (kind(ask).__name__, kind(ask).__doc__) == ("ask", "Ask.")
