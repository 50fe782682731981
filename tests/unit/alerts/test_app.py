"""Who is let in, and what is answered; the rest in tests/services."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from airflow.plugins_manager import get_fastapi_plugins
from fastapi.testclient import TestClient

from airflow_mlplatform.alerts.app import app
from airflow_mlplatform.alerts.mounted import AlertsApp

TOKEN = "a-long-random-text"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("AIRFLOW__MLPLATFORM__ALERTS_TOKEN", f"the-one-before {TOKEN} clé")
    with TestClient(AlertsApp()) as client:
        yield client


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}", f"Bearer the-one-before {TOKEN}"],
)
def test_nobody_is_let_in_without_the_token(client: TestClient, header: str) -> None:
    refused = client.post("/alerts", content=b"no JSON is read yet", headers={"Authorization": header})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert TOKEN not in refused.text


def test_nobody_is_let_in_where_no_token_is_set(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MLPLATFORM__ALERTS_TOKEN", " ")
    refused = client.post("/alerts", headers={"Authorization": "Bearer "})
    assert (refused.status_code, refused.json()["detail"]) == (401, "[mlplatform] alerts_token is not set")


@pytest.mark.parametrize("token", [TOKEN, "the-one-before", "clé"])
def test_a_notification_of_nothing_starts_nothing(client: TestClient, token: str) -> None:
    answer = client.post(
        "/alerts", json={"version": "4", "alerts": []}, headers={"Authorization": f"bearer {token}".encode()}
    )
    assert (answer.status_code, answer.json()) == (200, {"firing": 0, "outcomes": [], "unheard": []})


@pytest.mark.parametrize(("body", "place"), [(b"{", "the body"), (b'{"version": "5", "alerts": []}', "version")])
def test_what_is_no_notification_is_refused(client: TestClient, body: bytes, place: str) -> None:
    refused = client.post("/alerts", content=body, headers={"Authorization": f"Bearer {TOKEN}"})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith(f"{place}: ")


def test_airflow_is_told_where_the_application_is() -> None:
    ((ours,), _) = [[one for one in found if one["name"] == "mlplatform"] for found in get_fastapi_plugins()]
    assert ours["url_prefix"] == "/mlplatform"


def test_it_has_no_pages_of_its_own() -> None:
    assert [route.path for route in app.routes] == ["/alerts"]  # type: ignore[attr-defined]
