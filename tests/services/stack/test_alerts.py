"""The way of an alert through the stack: one token, one address, and a network policy that lets it pass."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_mlplatform.alerts.app import app
from airflow_mlplatform.plugin import MlplatformPlugin
from tests.parts import program
from tests.services.alertmanager_server import GET_ALERTMANAGER
from tests.services.stack.rendering import PROFILES, VALUES, values


def secret(namespace: str, name: str) -> dict[str, Any]:
    """The data of a secret that our chart makes."""
    made = yaml.safe_load((VALUES / "platform" / "files" / "secrets.yaml").read_text("utf-8"))
    (found,) = [one for one in made if (one["namespace"], one["name"]) == (namespace, name)]
    return dict(found["data"])


@pytest.mark.parametrize("profile", PROFILES)
def test_alertmanager_shows_the_token_that_airflow_knows(profile: str) -> None:
    airflow = values("airflow", profile)
    (known,) = [one for one in airflow["apiServer"]["env"] if one["name"] == "AIRFLOW__MLPLATFORM__ALERTS_TOKEN"]
    reference = known["valueFrom"]["secretKeyRef"]
    assert secret("airflow", reference["name"])[reference["key"]] == {"random": 32}
    alertmanager = values("kube-prometheus-stack", profile)["alertmanager"]
    (mounted,) = alertmanager["alertmanagerSpec"]["secrets"]
    assert secret("monitoring", mounted)["token"] == {"same": f"airflow/{reference['name']}/{reference['key']}"}
    shown = webhook(alertmanager)["http_config"]["authorization"]["credentials_file"]
    assert shown == f"/etc/alertmanager/secrets/{mounted}/token"


@pytest.mark.parametrize("profile", PROFILES)
def test_alertmanager_knows_the_address(profile: str) -> None:
    alertmanager = values("kube-prometheus-stack", profile)["alertmanager"]
    host = values("airflow", profile)["config"]["core"]["execution_api_server_url"].removesuffix("/execution/")
    (mount,) = MlplatformPlugin.fastapi_apps
    (route,) = app.routes
    assert webhook(alertmanager)["url"] == f"{host}{mount['url_prefix']}{route.path}"
    arrows = yaml.safe_load((VALUES / "platform" / "files" / "arrows.yaml").read_text("utf-8"))["arrows"]
    assert [arrow["ports"] for arrow in arrows if (arrow["from"], arrow["to"]) == ("monitoring", "airflow-api")] == [
        [8080]
    ]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("alert", "receivers"), [("ModelFails", "airflow,people"), ("Watchdog", "null")])
def test_airflow_and_people_hear_of_alerts(profile: str, alert: str, receivers: str, tmp_path: Path) -> None:
    config = tmp_path / "alertmanager.yml"
    config.write_text(yaml.safe_dump(values("kube-prometheus-stack", profile)["alertmanager"]["config"]), "utf-8")
    amtool = program("amtool", GET_ALERTMANAGER)
    asked = [amtool, "config", "routes", "test", f"--config.file={config}", f"alertname={alert}"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == receivers


def webhook(alertmanager: dict[str, Any]) -> dict[str, Any]:
    (receiver,) = [one for one in alertmanager["config"]["receivers"] if one["name"] == "airflow"]
    (found,) = receiver["webhook_configs"]
    return dict(found)
