"""Preflight and deployment of real models: MLflow's registry, MLflow's scoring processes, killed tasks."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from airflow.triggers.base import TaskSuccessEvent

from airflow_mlplatform.clients.mlflow import Endpoint, MlflowClient
from airflow_mlplatform.operators.preflight import MARK as PREFLIGHT_MARK
from airflow_mlplatform.runtime.model_server import free_port
from airflow_mlplatform.runtime.processes import marked
from airflow_mlplatform.runtime.serving import LocalServing
from airflow_mlplatform.settings import settings
from airflow_mlplatform.training.provenance import Provenance
from airflow_mlplatform.triggers import seldon_task
from airflow_mlplatform.triggers.local_actions import LocalRollbackTrigger
from tests.parts import require
from tests.services.mlflow_server import mlflow_server  # noqa: F401
from tests.services.operator_process import OperatorProcess
from tests.services.runtime.conftest import Crowd, eventually, processes, servers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.mlflow_server import MlflowServer

pytestmark = pytest.mark.slow

SECRET = "s3cr3t-of-this-test"
NEEDS_A_PACKAGE = """
import mlflow
import os

class Model(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        if os.environ.get("__pyfunc_model_path__"):
            import package_that_nobody_has
    def predict(self, context, model_input, params=None):
        return [1.0] * len(model_input)

mlflow.models.set_model(Model())
"""


def log_models(folder: Path) -> None:
    """Model ``served``: versions 1 and 2 are good, 3 has no input example, 4 needs a package that nobody has."""
    import mlflow
    from sklearn.datasets import load_wine
    from sklearn.linear_model import RidgeClassifier

    data, target = load_wine(as_frame=True, return_X_y=True)
    script = folder / "model.py"
    script.write_text(NEEDS_A_PACKAGE)
    # Named requirements spare MLflow the search for them.
    common: dict[str, Any] = {"name": "model", "registered_model_name": "served", "pip_requirements": ["scikit-learn"]}
    with mlflow.start_run():
        for strength in (1.0, 10.0):
            model = RidgeClassifier(alpha=strength).fit(data, target)
            mlflow.sklearn.log_model(model, input_example=data.head(3), **common)
        mlflow.sklearn.log_model(model, **common)
        mlflow.pyfunc.log_model(python_model=str(script), input_example=data.head(3), **common)
    mlflow.MlflowClient().set_registered_model_alias("served", "challenger", "2")


@pytest.fixture(scope="module")
def registry(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> MlflowServer:  # noqa: F811
    require(importlib.util.find_spec("sklearn"), "scikit-learn is missing; install it: uv sync --extra demo")
    # In a process of its own: loading a model imports whatever it likes.
    subprocess.run(
        [sys.executable, "-m", "tests.services.test_serving_deploy", str(tmp_path_factory.mktemp("code"))],
        env=os.environ | {"MLFLOW_TRACKING_URI": mlflow_server.url},
        cwd=Path(__file__).parents[2],
        check=True,
    )
    return mlflow_server


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalServing]:
    serving = LocalServing(tmp_path / "state", f"127.0.0.1:{free_port()}")
    yield serving
    serving.stop()
    assert not processes(serving)


def task(operator: str, local: LocalServing, registry: MlflowServer, folder: Path, **arguments: Any) -> OperatorProcess:
    environment = {
        **registry.environment,
        "AIRFLOW__MLPLATFORM__STATE_DIR": str(local.folder.path.parent),
        "AIRFLOW__MLPLATFORM__SERVING_ADDRESS": local.address,
    }
    folder = folder / operator.rpartition(":")[2]
    folder.mkdir(exist_ok=True)
    return OperatorProcess(operator, arguments, folder, environment)


def deploy_task(local: LocalServing, registry: MlflowServer, folder: Path, model: dict[str, Any]) -> OperatorProcess:
    return task(
        "airflow_mlplatform.operators.local_deploy:LocalDeployOperator", local, registry, folder,
        serving={"name": "wine"}, model=model, deferrable=False,
    )  # fmt: skip


def preflight_task(local: LocalServing, registry: MlflowServer, folder: Path, version: int) -> OperatorProcess:
    return task(
        "airflow_mlplatform.operators.preflight:PreflightOperator", local, registry, folder,
        model={"name": "served", "version": version},
    )  # fmt: skip


def predict(local: LocalServing) -> httpx.Response:
    from sklearn.datasets import load_wine

    rows = load_wine(as_frame=True).data.head(5)
    body = {"dataframe_split": rows.to_dict(orient="split")}
    return httpx.post(f"{local.url('wine')}/invocations", json=body, trust_env=False, timeout=60)


def test_a_model_is_served_replaced_and_kept(local: LocalServing, registry: MlflowServer, tmp_path: Path) -> None:
    first = deploy_task(local, registry, tmp_path, {"name": "served", "version": 1})
    first.environment["AIRFLOW_CONN_MLFLOW_DEFAULT"] = (
        f'{{"conn_type": "mlflow", "host": "{registry.url}", "login": "me", "password": "{SECRET}"}}'
    )
    assert first.run() == {
        "endpoint_url": local.url("wine"), "model": "served", "version": "1", "former_version": None,
    }  # fmt: skip
    assert predict(local).json() == {"predictions": [0] * 5}
    assert httpx.get(f"{local.url('wine')}/version", trust_env=False).status_code == 200
    assert_secret_is_nowhere(local, tmp_path)

    # The deployer of the second version is killed while the switch-over is under way; nobody who asks notices.
    second = deploy_task(local, registry, tmp_path, {"candidate": {"name": "served", "version": 2}, "promote": True})
    with Crowd(local.url("wine"), path="ping", size=2) as crowd:
        process = second.start()
        eventually(lambda: (status := local.status("wine")) and status.generation == 2, "the switch-over begins")
        process.kill()
        process.wait()
        result = second.run()
    assert (result["version"], result["former_version"]) == ("2", "1")
    assert crowd.refused == []
    wish = local.folder.endpoint("wine").desired()
    assert wish is not None
    assert wish.generation == 2
    assert predict(local).headers["x-mlplatform-model-version"] == "2"
    eventually(lambda: len(servers(local)) == 1, "one server is left")

    unfit = deploy_task(local, registry, tmp_path, {"name": "served", "version": 4}).run()
    assert unfit["kind"] == "AirflowFailException"
    assert "'package_that_nobody_has'" in unfit["error"]
    assert "served version 2 goes on serving" in unfit["error"]
    cut_off = deploy_task(local, registry, tmp_path, {"name": "served", "version": 1})
    cut_off.environment["AIRFLOW_CONN_MLFLOW_DEFAULT"] = (
        f'{{"conn_type": "mlflow", "host": "http://127.0.0.1:{free_port()}"}}'
    )
    assert cut_off.run()["kind"] == "ServiceUnavailable"
    assert predict(local).headers["x-mlplatform-model-version"] == "2"

    # After a reboot it serves again, without MLflow and without its credentials.
    for pid in processes(local):
        os.kill(pid, signal.SIGKILL)
    local.ensure_front()
    eventually(lambda: predict(local).status_code == 200, "it serves again")
    assert predict(local).headers["x-mlplatform-model-version"] == "2"


@pytest.mark.long
def test_a_canary_of_real_models_is_judged_by_what_the_front_counts(
    local: LocalServing, registry: MlflowServer, tmp_path: Path
) -> None:
    first = deploy_task(local, registry, tmp_path, {"name": "served", "version": 1})
    assert first.run()["version"] == "1"
    canary = deploy_task(local, registry, tmp_path, {"name": "served", "version": 2})
    analysis = [
        {"name": "errors", "metric": "error-rate", "max": 0.05},
        {"metric": "latency-p99", "max": 5, "name": "slow"},
    ]
    canary.arguments["rollout"] = {
        "strategy": "canary", "steps": [50, 100], "interval": "3s", "check_every": "1s", "analysis": analysis,
    }  # fmt: skip
    with Predictions(local) as users:
        process = canary.start()
        eventually(lambda: "2" in users.versions, "the candidate answers")
        process.kill()
        process.wait()
        result = canary.run()
    assert (result["version"], result["former_version"], result["result"]) == ("2", "1", "done")
    assert result["steps"][:2] == ["50 %", "100 %"]
    assert predict(local).headers["x-mlplatform-model-version"] == "2"
    eventually(lambda: len(servers(local)) == 1, "one server is left")


async def test_the_former_champion_is_served_again_and_then_is_the_champion(
    local: LocalServing, registry: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(Endpoint(registry.url))
    client.set_alias("served", "champion", 2)
    client.set_alias("served", "previous-champion", 1)
    assert deploy_task(local, registry, tmp_path, {"name": "served", "version": 2}).run()["version"] == "2"
    variables = {"STATE_DIR": str(local.folder.path.parent), "SERVING_ADDRESS": local.address}
    for name, value in variables.items():
        monkeypatch.setenv(f"AIRFLOW__MLPLATFORM__{name}", value)
    for name, value in registry.environment.items():
        monkeypatch.setenv(name, value)
    left: dict[str, Any] = {}

    async def leave(_: Provenance, value: object, key: str = "return_value") -> None:
        left[key] = value

    monkeypatch.setattr(seldon_task, "leave", leave)
    settings.cache_clear()
    origin = Provenance("wine", "run", "rollback", -1, 1, "http://airflow.test/dags/wine/runs/1").to_json()
    trigger = LocalRollbackTrigger({"name": "wine"}, {"name": "served"}, {}, origin)
    fired = [event async for event in trigger.run()]
    settings.cache_clear()
    assert isinstance(fired[0], TaskSuccessEvent), fired
    assert (left["return_value"]["version"], left["return_value"]["result"]) == ("1", "done")
    assert predict(local).headers["x-mlplatform-model-version"] == "1"
    champion = client.get_version_by_alias("served", "champion")
    assert champion is not None
    assert champion.version == 1


class Predictions:
    """Somebody who asks for predictions without a pause."""

    def __init__(self, local: LocalServing) -> None:
        self.local = local
        self.versions: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Predictions:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            answer = predict(self.local)
            assert answer.status_code == 200, answer.text
            self.versions.add(answer.headers["x-mlplatform-model-version"])


def assert_secret_is_nowhere(local: LocalServing, folder: Path) -> None:
    for path in folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    for pid in processes(local):
        process = psutil.Process(pid)
        assert SECRET not in " ".join(process.cmdline())
        assert SECRET not in process.environ().values()


def test_preflight_asks_the_model_its_own_example(local: LocalServing, registry: MlflowServer, tmp_path: Path) -> None:
    by_alias = preflight_task(local, registry, tmp_path, 0)
    by_alias.arguments["model"] = {"name": "served", "alias": "challenger"}
    result = by_alias.run()
    assert (result["model"], result["version"], result["predictions"]) == ("served", "2", 3)

    no_example = preflight_task(local, registry, tmp_path, 3).run()
    assert no_example["kind"] == "AirflowFailException"
    assert "log it with input_example=" in no_example["error"]

    no_package = preflight_task(local, registry, tmp_path, 4).run()
    assert no_package["kind"] == "AirflowFailException"
    assert "'package_that_nobody_has'" in no_package["error"]

    unknown = preflight_task(local, registry, tmp_path, 99).run()
    assert unknown["kind"] == "AirflowFailException"
    assert "99" in unknown["error"]


def test_a_killed_preflight_leaves_no_server(local: LocalServing, registry: MlflowServer, tmp_path: Path) -> None:
    identity = f"{tmp_path.name}/manual__1/a_task/-1"
    task = preflight_task(local, registry, tmp_path, 1)
    process = task.start(dag_id=tmp_path.name)
    (orphan,) = eventually(lambda: marked(PREFLIGHT_MARK, identity), "the server is starting")
    process.kill()
    process.wait()
    assert marked(PREFLIGHT_MARK, identity) == [orphan]
    assert task.run(dag_id=tmp_path.name)["predictions"] == 3
    assert not marked(PREFLIGHT_MARK, identity)


if __name__ == "__main__":
    log_models(Path(sys.argv[1]))
