"""The client of Prometheus against what may stand at its address; real answers are in tests/services."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest

from airflow_mlplatform.clients.http import Endpoint
from airflow_mlplatform.clients.prometheus import AsyncPrometheusClient, PrometheusClient, PrometheusEndpoint, Sample
from airflow_mlplatform.exceptions import ConfigurationError, MlplatformError, ServiceRefused, ServiceUnavailable

AT = PrometheusEndpoint(
    Endpoint("http://prometheus/base/", token="t0ken"), {"X-Scope-OrgID": "team", "x-key": "s3cret"}
)


def answering(status: int, **content: Any) -> PrometheusClient:
    return PrometheusClient(AT, httpx.MockTransport(lambda _: httpx.Response(status, **content)))


def failing(kind: str, error: str) -> dict[str, Any]:
    return {"json": {"status": "error", "errorType": kind, "error": error}}


def test_what_is_sent() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"status": "success", "data": {"resultType": "vector", "result": []}})

    client = PrometheusClient(AT, httpx.MockTransport(handler))
    assert client.query('sum(up{a="b c"}) + 1').samples == ()
    assert str(seen[0].url).startswith("http://prometheus/base/api/v1/query?query=sum")
    assert seen[0].url.params["query"] == 'sum(up{a="b c"}) + 1'
    assert (seen[0].headers["authorization"], seen[0].headers["x-scope-orgid"]) == ("Bearer t0ken", "team")
    assert not {"t0ken", "s3cret"} & set(repr(client).replace("'", " ").split())


async def test_warnings_are_told() -> None:
    data = {"resultType": "vector", "result": [{"metric": {"a": "b"}, "value": [1.5, "NaN"]}]}
    content = {"status": "success", "data": data, "warnings": ["store is away"], "infos": ["no counter"]}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=content))
    async with AsyncPrometheusClient(AT, transport) as client:
        found = await client.query("a")
    assert found.warnings == ("store is away", "no counter")
    assert math.isnan(found.samples[0].value or 0)


def test_a_native_histogram_is_no_number() -> None:
    result = [{"metric": {}, "histogram": [1.5, {"count": "3", "sum": "1", "buckets": []}]}]
    client = answering(200, json={"status": "success", "data": {"resultType": "vector", "result": result}})
    assert client.query("h").samples == (Sample({}, None),)


@pytest.mark.parametrize(
    ("status", "content", "error", "words"),
    [
        (400, failing("bad_data", "parse error"), ConfigurationError, "cannot evaluate up.: parse error; correct the"),
        (422, failing("execution", "many-to-many"), ConfigurationError, "cannot evaluate up.: many-to-many"),
        (503, failing("timeout", "query timed out"), ServiceUnavailable, "cannot answer now: query timed out"),
        (500, failing("internal", "tsdb"), ServiceUnavailable, "cannot answer now: tsdb"),
        (429, {"text": "too many outstanding requests"}, ServiceUnavailable, "too many outstanding"),
        (502, {"html": "<h1>Bad Gateway</h1>"}, ServiceUnavailable, "502 Bad Gateway; see that it runs"),
        (401, {"text": "Unauthorized"}, ServiceRefused, "correct login, password, token or headers"),
        (403, {"html": "<p>No</p>"}, ServiceRefused, "403 Forbidden; correct login"),
        (404, {"text": "404 page not found"}, ServiceRefused, "with the path it has behind an ingress"),
        (302, {"headers": {"location": "/login"}}, ServiceRefused, "302 Found; see that the connection names"),
        (200, {"html": "<html>Grafana</html>"}, ServiceRefused, "does not answer as Prometheus does: 200 OK"),
        (200, {"json": {"status": "success"}}, ServiceRefused, "does not answer as Prometheus does"),
        (200, {"json": ["status"]}, ServiceRefused, "does not answer as Prometheus does"),
        (400, {"text": "no org id"}, ServiceRefused, "no org id"),
    ],
)
def test_refusals(status: int, content: dict[str, Any], error: type[MlplatformError], words: str) -> None:
    with pytest.raises(error, match=words):
        answering(status, **content).query("up{")


def test_a_bundle_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match=r"CA bundle /nowhere.pem"):
        PrometheusClient(PrometheusEndpoint(Endpoint("https://prometheus", verify="/nowhere.pem")))
