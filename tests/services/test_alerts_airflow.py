"""Alertmanager's notifications to two real API servers on one PostgreSQL: each incident makes one run."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest

from tests.services.airflow_home import AirflowHome
from tests.services.alertmanager_server import AlertmanagerServer
from tests.services.ports import free_port
from tests.services.postgres_server import PASSWORD, PostgresServer
from tests.services.prometheus_server import PrometheusServer
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

COOLDOWNS = {
    "Storm": "6h",
    "Again": "1s",
    "Patient": "6h",
    "Hasty": "1s",
    "Told": "6h",
    "Quiet": "6h",
    "Paused": "6h",
    "Outage": "6h",
    "Raced": "6h",
    "Real": "6h",
}
OLD, TOKEN = "the-token-that-is-on-its-way-out", "the-token-that-replaces-it"
SPECS = """
apiVersion: mlplatform/v1
kind: training
name: {name}
schedule: "@daily"
on_alert: [{{alert: {alert}, labels: {{model: wine}}, cooldown: {cooldown}}}]
project: {{uri: project, parameters: {{model: "{{{{ params.alert.labels.get('model', 'wine') }}}}"}}}}
experiment: alerts
"""
DEPLOYMENTS = """
apiVersion: mlplatform/v1
kind: deployment
name: {name}-deployment
schedule: {{model: {name}, alias: challenger}}
on_alert:
  - {{alert: ModelFails, labels: {{namespace: models, deployment_name: {name}}}, action: rollback}}
model: {{name: {name}}}
serving: {{name: {name}}}
"""


def alert(name: str, status: str = "firing", **labels: str) -> dict[str, Any]:
    """One alert, as Alertmanager 0.25 sends it."""
    return {
        "status": status,
        "labels": {"alertname": name, **labels},
        "annotations": {"summary": f"{name} of {labels.get('model')}"},
        "startsAt": "2026-11-23T08:14:43.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph?g0.expr=up",
        "fingerprint": "c2a5b9a1f1a1b2c3",
    }


def message(*alerts: dict[str, Any]) -> dict[str, Any]:
    """A notification of them."""
    return {
        "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "airflow",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager:9093",
        "alerts": list(alerts),
    }  # fmt: skip


class Alerts:
    """Two API servers on one database, and specs that listen."""

    def __init__(self, homes: tuple[AirflowHome, AirflowHome], database: PostgresServer) -> None:
        self.homes = homes
        self.database = database

    def send(self, body: Any, server: int = 0, token: str = TOKEN, **options: Any) -> httpx.Response:
        """Send a notification to one of the two."""
        content = body if isinstance(body, (bytes, str)) else json.dumps(body)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        url = f"{self.homes[server].url}/mlplatform/alerts"
        return httpx.post(url, content=content, headers=headers | options.pop("headers", {}), timeout=60, **options)

    def heard(self, *alerts: dict[str, Any], server: int = 0) -> dict[str, Any]:
        """Send alerts; the account."""
        answer = self.send(message(*alerts), server)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The runs of a DAG."""
        return self.homes[0].runs(dag_id)

    def end(self, dag_id: str, run_id: str) -> None:
        """Let a run be over."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
        self.homes[0].send("PATCH", path, {"state": "success"})


@pytest.fixture(scope="module")
def alerts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alerts]:
    folder = tmp_path_factory.mktemp("airflow")
    database = PostgresServer()
    specs = folder / "specs"
    specs.mkdir()
    texts = [
        SPECS.format(name=f"{name}-training", alert=name, cooldown=cooldown) for name, cooldown in COOLDOWNS.items()
    ]
    texts += [DEPLOYMENTS.format(name=name) for name in ("wine", "beer")]
    (specs / "all.yaml").write_text("---".join(texts))
    environment = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": (
            f"postgresql+psycopg://test:{quote(PASSWORD, safe='')}@127.0.0.1:{database.port}/postgres"
        ),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
            [{"name": "specs", "classpath": "airflow_mlplatform.bundle.SpecBundle", "kwargs": {"path": str(specs)}}]
        ),
        "AIRFLOW__MLPLATFORM__ALERTS_TOKEN": f"{OLD} {TOKEN}",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(folder / "bundles"),
        "AIRFLOW__MLPLATFORM__RUNTIME": "kubernetes",
    }
    homes = (AirflowHome(folder, environment), AirflowHome(folder, environment, port=free_port()))
    try:
        database.start()
        homes[0].migrate()
        with ThreadPoolExecutor() as pool:
            parsed = pool.submit(homes[0].command, "dags", "reserialize")
            list(pool.map(lambda home: home.start("api-server"), homes))
            parsed.result()
        yield Alerts(homes, database)
    finally:
        for home in homes:
            home.kill()
        database.remove()


def test_fifty_alerts_at_once_to_two_servers_make_one_run(alerts: Alerts) -> None:
    with ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(lambda n: alerts.send(message(alert("Storm", model="wine", pod=str(n))), n % 2), range(50))
        )
    assert {answer.status_code for answer in answers} == {200}
    started = [one["run_id"] for answer in answers for one in answer.json()["outcomes"] if one["run_id"]]
    assert started == ["alert__run__1"]
    assert [run["dag_run_id"] for run in alerts.runs("Storm-training")] == ["alert__run__1"]


def test_repetitions_and_a_run_that_goes_on_start_none(alerts: Alerts) -> None:
    firing = alert("Again", model="wine")
    assert alerts.heard(firing)["outcomes"][0]["run_id"] == "alert__run__1"
    for server in (0, 1):
        (outcome,) = alerts.heard(firing, server=server)["outcomes"]
        assert (outcome["run_id"], outcome["why"]) == ("", "alert__run__1 is queued")


def test_after_the_pause_an_alert_that_still_fires_starts_the_next(alerts: Alerts) -> None:
    alerts.heard(alert("Patient", model="wine"))
    alerts.end("Patient-training", "alert__run__1")
    (outcome,) = alerts.heard(alert("Patient", model="wine"))["outcomes"]
    assert "cooldown: 6h lasts until" in outcome["why"]
    alerts.heard(alert("Hasty", model="wine"))
    alerts.end("Hasty-training", "alert__run__1")
    started = wait_for(lambda: alerts.heard(alert("Hasty", model="wine"), server=1)["outcomes"][0]["run_id"])
    assert started == "alert__run__2"
    assert len(alerts.runs("Hasty-training")) == 2


def test_a_run_is_told_its_alert(alerts: Alerts) -> None:
    alerts.heard(
        alert("Told", model="wine", pod="a"), alert("Told", model="wine", pod="b"), alert("Told", model="beer")
    )
    (run,) = alerts.runs("Told-training")
    assert run["conf"]["alert"] == {
        "name": "Told",
        "labels": {"alertname": "Told", "model": "wine"},
        "annotations": {"summary": "Told of wine"},
        "since": "2026-11-23T08:14:43+00:00",
        "count": 2,
        "url": "http://prometheus:9090/graph?g0.expr=up",
    }
    assert (run["triggering_user_name"], run["note"]) == ("alertmanager", "Told (2 firing): Told of wine")
    assert run["logical_date"]


def test_an_alert_rolls_back_the_deployment_that_it_is_about(alerts: Alerts) -> None:
    heard = alerts.heard(alert("ModelFails", namespace="models", deployment_name="wine", predictor_name="main"))
    assert [(one["dag_id"], one["run_id"]) for one in heard["outcomes"]] == [("wine-deployment", "alert__rollback__1")]
    (run,) = alerts.runs("wine-deployment")
    assert run["conf"]["action"] == "rollback"
    assert alerts.runs("beer-deployment") == []


def test_what_is_resolved_or_unknown_or_of_other_labels_starts_nothing(alerts: Alerts) -> None:
    alerts_of_no_use = (alert("Quiet", "resolved", model="wine"), alert("Nobody"), alert("Quiet", model="beer"))
    assert alerts.heard(*alerts_of_no_use) == {"firing": 2, "outcomes": [], "unheard": ["Nobody", "Quiet"]}
    assert alerts.runs("Quiet-training") == []
    assert "'Nobody': nobody listens" in alerts.homes[0].output("api-server")


def test_a_paused_dag_starts_nothing(alerts: Alerts) -> None:
    alerts.homes[0].send("PATCH", "/dags/Paused-training", {"is_paused": True})
    (outcome,) = alerts.heard(alert("Paused", model="wine"))["outcomes"]
    assert (outcome["run_id"], outcome["why"]) == ("", "the DAG is paused")


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer"}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}]
)
def test_without_the_token_nobody_starts_anything(alerts: Alerts, headers: dict[str, str]) -> None:
    refused = httpx.post(f"{alerts.homes[0].url}/mlplatform/alerts", content=b"{", headers=headers)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("token", ["x", TOKEN[:-1], f"{TOKEN}x", f"{OLD} {TOKEN}", "tökèn"])
def test_a_wrong_token_is_refused(alerts: Alerts, token: str) -> None:
    authorization = f"Bearer {token}".encode()
    refused = alerts.send(message(alert("Quiet", model="wine")), headers={"Authorization": authorization})
    assert refused.status_code == 401


def test_airflows_own_tokens_are_not_accepted(alerts: Alerts) -> None:
    token = alerts.homes[0].api.headers["Authorization"].removeprefix("Bearer ")
    assert alerts.send(message(alert("Quiet", model="wine")), token=token).status_code == 401


def test_the_token_that_is_exchanged_is_accepted_too(alerts: Alerts) -> None:
    assert alerts.send(message(), token=OLD).status_code == 200


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[]", b"{}", b'{"version": "4", "alerts": [{}]}'])
def test_what_is_no_notification_is_refused_for_good(alerts: Alerts, body: bytes) -> None:
    refused = alerts.send(body)
    assert (refused.status_code, "send what Alertmanager's webhook sends" in refused.text) == (422, True)


def test_an_outage_of_the_database_is_tried_again(alerts: Alerts) -> None:
    alerts.database.stop()
    try:
        down = alerts.send(message(alert("Outage", model="wine")))
        assert (down.status_code, "postgresql" in down.text) == (503, False)
    finally:
        alerts.database.start()
    # The first connections of the pool may still be the old ones.
    wait_for(lambda: alerts.send(message(alert("Outage", model="wine"))).status_code == 200)
    assert [run["dag_run_id"] for run in alerts.runs("Outage-training")] == ["alert__run__1"]


def test_a_real_alertmanager_makes_one_run_of_fifty_alerts_and_outlasts_an_outage(
    alerts: Alerts, tmp_path: Path
) -> None:
    firing = " or ".join(f'label_replace(vector(1), "pod", "{number}", "", "")' for number in range(50))
    rule = {"alert": "Real", "expr": firing, "labels": {"model": "wine"}, "annotations": {"summary": "{{ $value }}"}}
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "test", "interval": "1s", "rules": [rule]}]}))
    (tmp_path / "alertmanager").mkdir()
    manager = AlertmanagerServer(tmp_path / "alertmanager", alerts.homes[0].url, TOKEN)
    told = {"alertmanagers": [{"static_configs": [{"targets": [manager.address]}]}]}
    configuration = {"rule_files": [str(tmp_path / "rules.yml")], "alerting": told}
    # It finds Alertmanager only after it has sent the alerts for the first time.
    prometheus = PrometheusServer(tmp_path, ("--rules.alert.resend-delay=1s",), configuration=configuration)
    alerts.database.stop()
    try:
        manager.start()
        prometheus.start()
        wait_for(lambda: manager.count("alertmanager_notification_requests_failed_total") > 0, "for a refusal")
    finally:
        alerts.database.start()
    try:
        wait_for(lambda: len(alerts.runs("Real-training")), "for the run")
        told_before = manager.count("alertmanager_notifications_total")
        wait_for(lambda: manager.count("alertmanager_notifications_total") > told_before, "for a repetition")
    finally:
        prometheus.stop()
        manager.stop()
    (run,) = alerts.runs("Real-training")
    assert run["conf"]["alert"]["labels"] == {"alertname": "Real", "model": "wine"}
