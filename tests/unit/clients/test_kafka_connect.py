"""The Kafka Connect client against answers as workers give them, and against everything else that may stand there."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from airflow_mlplatform.clients.http import Endpoint
from airflow_mlplatform.clients.kafka_connect import (
    AsyncKafkaConnectClient,
    ClientCertificate,
    ConnectEndpoint,
    KafkaConnectClient,
)
from airflow_mlplatform.exceptions import ConfigurationError, NotFound, ServiceRefused, ServiceUnavailable

Answer = tuple[int, Any]
STALE = (409, {"error_code": 409, "message": "Cannot complete request momentarily due to stale configuration"})
PLUGINS = [{"class": "org.example.ThingSinkConnector", "type": "sink", "version": "1.2"}]


def endpoint(*urls: str) -> ConnectEndpoint:
    return ConnectEndpoint(tuple(Endpoint(url, login="ann", password="s3cret") for url in urls or ("http://one:8083",)))


class Workers:
    """Answers in the order given, the last one again and again; notes what was asked."""

    def __init__(self, *answers: Answer | type[httpx.TransportError]) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, type):
            raise answer("no way", request=request)
        status, content = answer
        if isinstance(content, str):
            return httpx.Response(status, text=content)
        return httpx.Response(status, json=content) if content is not None else httpx.Response(status)

    def client(self, *urls: str, patience: float = 0.0) -> KafkaConnectClient:
        return KafkaConnectClient(endpoint(*urls), patience, httpx.MockTransport(self))

    @property
    def places(self) -> list[str]:
        return [str(request.url) for request in self.asked]


def test_the_next_worker_is_asked_and_remembered() -> None:
    workers = Workers(httpx.ConnectError, (200, {}))
    client = workers.client("http://one:8083", "http://two:8083/behind/")
    client.list_connectors()
    client.list_connectors()
    ask = "/connectors?expand=status&expand=info"
    assert workers.places == ["http://one:8083" + ask, "http://two:8083/behind" + ask, "http://two:8083/behind" + ask]
    assert workers.asked[1].headers["host"] == "two:8083"
    assert workers.asked[1].headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("gone", [(502, "bad gateway"), (503, "no upstream"), httpx.ReadTimeout, httpx.ReadError])
def test_a_worker_that_is_going_is_passed_over(gone: Any) -> None:
    workers = Workers(gone, (200, {}))
    assert workers.client("http://one", "http://two").list_connectors() == {}


def test_what_may_have_been_obeyed_is_not_sent_to_another() -> None:
    workers = Workers(httpx.ReadTimeout)
    with pytest.raises(ServiceUnavailable):
        workers.client("http://one", "http://two").restart("c")
    assert len(workers.asked) == 1


def test_no_worker_answers() -> None:
    with pytest.raises(ServiceUnavailable, match="one:1: no way; two:2: no way"):
        Workers(httpx.ConnectError).client("http://one:1", "http://two:2").version()


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (ssl.SSLCertVerificationError("self-signed certificate"), ConfigurationError),
        (ssl.SSLError("wrong version number"), ConfigurationError),
        (ssl.SSLEOFError("cut off"), ServiceUnavailable),
        (ConnectionResetError("reset"), ServiceUnavailable),
    ],
)
def test_certificates_that_one_side_does_not_take_are_no_outage(cause: Exception, kind: type[Exception]) -> None:
    class Distrusted(httpx.ConnectError):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.__cause__ = cause

    with pytest.raises(kind, match="one:1: no way"):
        Workers(Distrusted).client("https://one:1").version()
    with pytest.raises(ServiceUnavailable):
        Workers(Distrusted, httpx.ConnectError).client("https://one:1", "https://two:2").version()
    assert Workers(Distrusted, (200, {})).client("https://one:1", "https://two:2").list_connectors() == {}


def test_a_redirect_names_the_address_to_write() -> None:
    def moved(request: httpx.Request) -> httpx.Response:
        return httpx.Response(308, headers={"location": "https://one/connectors"})

    client = KafkaConnectClient(endpoint(), 0.0, httpx.MockTransport(moved))
    with pytest.raises(ServiceRefused, match="308, it is at https://one/connectors; write its address"):
        client.get_config("c")


async def test_the_async_client_fails_over_too() -> None:
    workers = Workers(httpx.ConnectError, (503, "later"), (200, {}))
    urls = ("http://one", "http://two", "http://three")
    async with AsyncKafkaConnectClient(endpoint(*urls), httpx.MockTransport(workers)) as client:
        assert await client.list_connectors() == {}
    assert [request.url.host for request in workers.asked] == ["one", "two", "three"]


def test_a_worker_that_starts_has_no_pages_yet() -> None:
    page = "<html><title>Error 404 Not Found</title><h2>HTTP ERROR 404 Not Found</h2><th>URI:</th></html>"

    def starting(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(404, html=page) if len(asked) < 4 else httpx.Response(200, json={"a": "1"})

    asked: list[str] = []
    workers = endpoint("http://one", "http://two")
    assert KafkaConnectClient(workers, 30.0, httpx.MockTransport(starting)).get_config("c") == {"a": "1"}
    assert asked == ["one", "two", "one", "two"]
    asked.clear()
    with pytest.raises(ServiceUnavailable, match="has no pages, which is so while a worker starts"):
        KafkaConnectClient(workers, 0.0, httpx.MockTransport(starting)).get_config("c")


@pytest.mark.parametrize("trouble", [STALE, (500, {"error_code": 500, "message": "Request timed out"}), (503, "")])
def test_a_rebalance_is_borne(trouble: Answer) -> None:
    workers = Workers(trouble, trouble, (200, {"name": "c"}))
    workers.client(patience=30).put_config("c", {"a": "1"})
    assert [request.method for request in workers.asked] == ["PUT"] * 3
    assert json.loads(workers.asked[-1].content) == {"a": "1"}


def test_patience_ends() -> None:
    with pytest.raises(ServiceUnavailable, match="stale configuration; try again later"):
        Workers(STALE).client().put_config("c", {})


def test_refusals_are_not_repeated() -> None:
    workers = Workers((400, {"error_code": 400, "message": "invalid config"}))
    with pytest.raises(ServiceRefused, match=r"refused PUT /connectors/c/config: invalid config"):
        workers.client(patience=30).put_config("c", {})
    assert len(workers.asked) == 1


def test_what_is_not_there() -> None:
    missing = (404, {"error_code": 404, "message": "Connector c not found"})
    assert Workers(missing).client().get_connector("c") is None
    assert Workers(missing).client().get_status("c") is None
    Workers(missing).client().delete("c")
    with pytest.raises(NotFound):
        Workers(missing).client().get_offsets("c")


@pytest.mark.parametrize(
    "other", [(404, {"error_code": 404, "message": "HTTP 404 Not Found"}), (404, "<html>nginx</html>")]
)
def test_another_service_is_not_taken_for_an_empty_one(other: Answer) -> None:
    with pytest.raises(ServiceRefused) as error:
        Workers(other).client().get_connector("c")
    assert not isinstance(error.value, NotFound)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, "<html>hello</html>"), "without JSON"),
        ((200, {"version": "1"}), "not Kafka Connect"),
        ((401, "no"), "correct login, password, token"),
    ],
)
def test_who_answers(answer: Answer, words: str) -> None:
    with pytest.raises(ServiceRefused, match=words):
        Workers(answer).client().version()


def test_creating_what_is_there_and_creating_during_a_rebalance() -> None:
    taken = (409, {"error_code": 409, "message": "Connector c already exists"})
    assert Workers(taken, (200, {"a": "1"})).client().create("c", {}, "stopped") is False
    missing = (404, {"error_code": 404, "message": "Connector c not found"})
    workers = Workers(STALE, missing, (201, {}))
    assert workers.client(patience=30).create("c", {"a": "1"}, "stopped") is True
    assert json.loads(workers.asked[-1].content) == {"name": "c", "config": {"a": "1"}, "initial_state": "STOPPED"}


def test_validation() -> None:
    def entry(name: str, kind: str, *errors: str) -> dict[str, Any]:
        return {"definition": {"name": name, "type": kind}, "value": {"name": name, "errors": list(errors)}}

    found = (200, {"configs": [entry("a", "INT", "too big", "too blue"), entry("p", "PASSWORD"), entry("b", "INT")]})
    validation = Workers(found).client().validate({"name": "c", "connector.class": "ThingSink"})
    assert [(one.field, one.message) for one in validation.problems] == [("a", "too big"), ("a", "too blue")]
    assert validation.secrets == {"p"}


@pytest.mark.parametrize("status", [500, 404, 400])
def test_an_unknown_plugin_lists_the_others(status: int) -> None:
    refused = (status, {"error_code": status, "message": "Failed to find any class"})
    with pytest.raises(ConfigurationError, match="no plugin 'Nope'.*org.example.ThingSinkConnector 1.2"):
        Workers(refused, (200, PLUGINS)).client().validate({"connector.class": "Nope"})


def test_a_known_plugin_that_stumbles_is_not_unknown() -> None:
    stumbles = (500, {"error_code": 500, "message": "NullPointerException"})
    with pytest.raises(ServiceUnavailable, match="NullPointerException"):
        Workers(stumbles, (200, PLUGINS), stumbles, (200, PLUGINS)).client().validate({"connector.class": "ThingSink"})


@pytest.mark.parametrize("name", ["", "a/b"])
def test_names_that_cannot_be(name: str) -> None:
    calls: list[Callable[[KafkaConnectClient], Any]] = [
        lambda client: client.get_config(name),
        lambda client: client.create(name, {}, "running"),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match="rename it"):
            call(Workers((200, {})).client())


def test_names_are_quoted() -> None:
    workers = Workers((200, {}))
    workers.client().get_config("a b?#%")
    assert workers.asked[0].url.raw_path == b"/connectors/a%20b%3F%23%25/config"


def test_secrets_are_not_shown() -> None:
    certificate = ClientCertificate("/c.pem", password="k3y-password")
    shown = repr(ConnectEndpoint(endpoint().workers, certificate)) + repr(Workers((200, {})).client())
    assert "s3cret" not in shown
    assert "k3y-password" not in shown


def test_certificates_that_are_not_there() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be used.*connection"):
        KafkaConnectClient(ConnectEndpoint(endpoint().workers, ClientCertificate("/nowhere.pem")))
    with pytest.raises(ConfigurationError, match="name one"):
        ConnectEndpoint(())
