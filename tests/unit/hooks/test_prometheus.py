"""How an Airflow connection becomes Prometheus' address and who we are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.hooks.prometheus import PrometheusHook


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(**connection: Any) -> PrometheusHook:
        monkeypatch.setenv("AIRFLOW_CONN_METRICS", json.dumps({"conn_type": "prometheus"} | connection))
        return PrometheusHook("metrics")

    return make


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        ({"host": "prometheus", "port": 9090}, "http://prometheus:9090"),
        ({"host": "prometheus", "schema": "https"}, "https://prometheus"),
        ({"host": "https://one/thanos/", "port": 9090}, "https://one:9090/thanos"),
        ({"host": "http://one:80", "port": 9090}, "http://one:80"),
        ({"host": "[::1]", "port": 9090}, "http://[::1]:9090"),
        ({"host": "one", "extra": {"path": "/prometheus/"}}, "http://one/prometheus"),
        ({"host": "http://one/own", "extra": {"path": "prometheus"}}, "http://one/own"),
    ],
)
def test_addresses(hook: Any, connection: dict[str, Any], url: str) -> None:
    assert hook(**connection).endpoint().endpoint.url == url


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        ({}, "names no host"),
        ({"host": "ftp://x"}, "no address"),
        ({"host": "x", "extra": {"headers": "X-Scope-OrgID: s3cret"}}, "headers is no object"),
        ({"host": "x", "extra": {"headers": {"X-Key": "s3cret\r\nX-Other: 1"}}}, "headers is no object"),
        ({"host": "x", "extra": {"headers": {"X-Key": 7}}}, "headers is no object"),
    ],
)
def test_mistakes(hook: Any, connection: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        hook(**connection).endpoint()
    assert "s3cret" not in str(caught.value)


async def test_who_we_are(hook: Any) -> None:
    extra = {"token": "t0ken", "verify": "false", "headers": {"X-Scope-OrgID": "team", "X-Key": "s3cret"}}
    made = hook(host="one", login="ann", password="pw", extra=extra)
    found = made.endpoint()
    assert (found.endpoint.login, found.endpoint.password, found.endpoint.token) == ("ann", "pw", "t0ken")
    assert (found.endpoint.verify, found.headers) == (False, {"X-Scope-OrgID": "team", "X-Key": "s3cret"})
    async with await made.async_client() as client:
        assert client.http.headers["x-scope-orgid"] == "team"
    assert hook(host="one", extra={"headers": None}).endpoint().headers == {}


def test_the_connection_of_the_deployment() -> None:
    assert PrometheusHook().prometheus_conn_id == "prometheus_default"


async def test_a_connection_that_is_not_there_is_a_lasting_mistake() -> None:
    with pytest.raises(ConfigurationError, match="no Airflow connection 'nowhere'"):
        await PrometheusHook("nowhere").async_client()


def test_the_connection_test_explains_itself(hook: Any) -> None:
    assert "does not answer" in hook(host="http://127.0.0.1:1").test_connection()[1]
    assert hook().test_connection()[0] is False


def test_airflow_knows_the_form() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    # All that follows would import the hooks of all providers.
    manager.initialize_providers_list()
    manager._load_ui_metadata()
    fields = {name for name in manager._connection_form_widgets if name.startswith("extra__prometheus__")}
    assert fields == {f"extra__prometheus__{name}" for name in ("token", "path", "verify", "headers")}
    assert manager._connection_form_widgets["extra__prometheus__token"].is_sensitive
    assert manager._field_behaviours["prometheus"]["relabeling"]["host"] == "Address of Prometheus"
