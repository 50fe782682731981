"""MLflow's users are made against a real server that asks for a login: each may do its work, and nothing beyond."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.parts import require
from tests.services.mlflow_server import MlflowServer

SCRIPT = Path(__file__).parents[3] / "helm-values" / "platform" / "files" / "mlflow_users.py"
PASSWORDS = {name: f"the-password-of-{name}" for name in ("airflow", "training", "metrics")}
ADMIN = ("admin", "the-password-of-admin")
LOGIN = """\
[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/users.db
admin_username = {admin[0]}
admin_password = {admin[1]}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


class GuardedMlflow(MlflowServer):
    """A server as the stack's chart starts it: with logins and metrics."""

    def _command(self) -> list[str]:
        return [*super()._command(), "--app-name", "basic-auth", "--expose-prometheus", str(self.folder / "metrics")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    require(importlib.util.find_spec("flask_wtf"), "MLflow's login is missing; install it: pip install 'mlflow[auth]'")
    folder = tmp_path_factory.mktemp("mlflow-users")
    (folder / "login.ini").write_text(LOGIN.format(folder=folder, admin=ADMIN), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(folder / "login.ini"))
        patch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "for-sessions")
        # As in 3.15, which the stack's chart brings; newer ones show metrics to administrators only, unless told so.
        patch.setenv("MLFLOW_BASIC_AUTH_FAIL_CLOSED", "false")
        server = GuardedMlflow(folder).start()
    try:
        assert _make_users(server, **PASSWORDS) == "made airflow\nmade training\nmade metrics\n"
        yield server
    finally:
        server.stop()


def _make_users(server: MlflowServer, **passwords: str) -> str:
    """Run the script as the job of the chart does."""
    folder = server.folder / "passwords"
    folder.mkdir(exist_ok=True)
    for name, password in passwords.items():
        (folder / name).write_text(password, "utf-8")
    place = {"MLFLOW_URL": server.url, "ADMIN_USERNAME": ADMIN[0], "ADMIN_PASSWORD": ADMIN[1]}
    command = [sys.executable, str(SCRIPT), str(folder)]
    done = subprocess.run(command, env=os.environ | place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class User:
    """What a user of the server can do."""

    def __init__(self, server: MlflowServer, name: str) -> None:
        self._client = httpx.Client(base_url=f"{server.url}/api/2.0/mlflow", auth=(name, PASSWORDS[name]), timeout=30)

    def __call__(self, verb: str, path: str, **body: Any) -> Any:
        answer = self.asks(verb, path, **body)
        assert answer.is_success, answer.text
        return answer.json()

    def asks(self, verb: str, path: str, **body: Any) -> httpx.Response:
        reads = verb == "GET"
        return self._client.request(verb, path, params=body if reads else None, json=None if reads else body)


@pytest.fixture(scope="module")
def airflow(server: MlflowServer) -> User:
    return User(server, "airflow")


@pytest.fixture(scope="module")
def training(server: MlflowServer) -> User:
    return User(server, "training")


@pytest.fixture(scope="module")
def run(airflow: User) -> dict[str, Any]:
    """A run that Airflow has made, with a champion in the registry."""
    experiment = airflow("POST", "experiments/create", name="wine")["experiment_id"]
    run = airflow("POST", "runs/create", experiment_id=experiment)["run"]["info"]
    airflow("POST", "registered-models/create", name="wine")
    airflow("POST", "model-versions/create", name="wine", source="s3://mlflow/wine", run_id=run["run_id"])
    airflow("POST", "registered-models/alias", name="wine", alias="champion", version="1")
    return dict(run)


def test_a_training_logs_into_the_run_that_airflow_made(training: User, run: dict[str, Any]) -> None:
    training("POST", "runs/log-metric", run_id=run["run_id"], key="rmse", value=0.5, timestamp=1)
    training("POST", "logged-models", experiment_id=run["experiment_id"], name="model", source_run_id=run["run_id"])
    training("POST", "runs/update", run_id=run["run_id"], status="FINISHED")
    assert training("GET", "registered-models/alias", name="wine", alias="champion")["model_version"]["version"] == "1"


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("POST", "registered-models/alias", {"name": "wine", "alias": "champion", "version": "1"}),
        ("POST", "model-versions/create", {"name": "wine", "source": "s3://mlflow/mine"}),
        ("DELETE", "registered-models/delete", {"name": "wine"}),
        ("POST", "runs/delete", {"run_id": "RUN"}),
        ("POST", "users/create", {"username": "friend", "password": "friend-of-training"}),
        ("PATCH", "users/update-password", {"username": "airflow", "password": "known-to-training"}),
    ],
)
def test_a_training_can_neither_promote_nor_delete(
    training: User, run: dict[str, Any], verb: str, path: str, body: dict[str, Any]
) -> None:
    body = {key: run["run_id"] if value == "RUN" else value for key, value in body.items()}
    assert training.asks(verb, path, **body).status_code == 403


@pytest.mark.usefixtures("run")
def test_airflow_moves_and_removes_aliases_but_makes_no_users(airflow: User) -> None:
    airflow("POST", "registered-models/alias", name="wine", alias="challenger", version="1")
    airflow("DELETE", "registered-models/alias", name="wine", alias="challenger")
    assert airflow.asks("POST", "users/create", username="friend", password="of-airflow-itself").status_code == 403


def test_prometheus_needs_its_login(server: MlflowServer) -> None:
    login = ("metrics", PASSWORDS["metrics"])
    assert httpx.get(f"{server.url}/metrics").status_code == 401
    assert "mlflow_http_request_total" in httpx.get(f"{server.url}/metrics", auth=login).text


def test_a_second_time_changes_nothing_and_a_new_password_holds(server: MlflowServer) -> None:
    assert _make_users(server, **PASSWORDS) == ""
    new = "metrics-has-a-new-one"
    assert _make_users(server, metrics=new) == "made metrics\n"
    path = f"{server.url}/api/2.0/mlflow/users/current"
    assert httpx.get(path, auth=("metrics", new)).is_success
    assert httpx.get(path, auth=("metrics", PASSWORDS["metrics"])).status_code == 401
    assert _make_users(server, **PASSWORDS) == "made metrics\n"
