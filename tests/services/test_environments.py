"""`mlflow run` makes the environments `uv` and `virtualenv` for real, from the package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_mlplatform.clients.mlflow import Endpoint, MlflowClient
from airflow_mlplatform.runtime.mlflow_project import prepare
from tests.parts import program, require

if TYPE_CHECKING:
    from airflow_mlplatform.runtime.project_environment import Environment
    from tests.services.mlflow_server import MlflowServer

pytestmark = pytest.mark.long

REPOSITORY = Path(__file__).parents[2]
# `six` in a version that nothing here depends on: only an environment of its own has it.
SMALL = {
    "MLproject": (
        "name: small\npython_env: python_env.yaml\nentry_points:\n  main:\n    parameters: {out: string}\n"
        '    command: "python train.py {out}"\n'
    ),
    "python_env.yaml": "build_dependencies: [pip]\ndependencies: [six==1.16.0]\n",
    "train.py": (
        "import importlib.metadata, os, pathlib, sys\n"
        "words = [importlib.metadata.version('six'), sys.prefix, os.environ['MLFLOW_RUN_ID']]\n"
        "pathlib.Path(sys.argv[1]).write_text('\\n'.join(words))\n"
    ),
}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Programs on PATH as in the trainer image: uv, and a pyenv, its own where this machine has none."""
    uv = program("uv", "uv is missing; install it: pip install uv")
    require(shutil.which("git"), "install git")
    shim = tmp_path / "bin"
    shim.mkdir()
    if not shutil.which("pyenv"):
        script = REPOSITORY / "docker" / "trainer" / "pyenv"
        (shim / "pyenv").write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
        (shim / "pyenv").chmod(0o755)
    path = [str(shim), str(Path(sys.executable).parent), str(Path(uv).parent), os.environ["PATH"]]
    return os.environ | {"PATH": os.pathsep.join(path), "MLFLOW_ENV_ROOT": str(tmp_path / "environments")}


def run(
    server: MlflowServer, environ: dict[str, str], project: Path, environment: Environment, **parameters: object
) -> str:
    """Run the project in a run made beforehand; returns the run's id."""
    client = MlflowClient(Endpoint(server.url))
    made = client.create_run(client.get_or_create_experiment(f"{project.name} {environment}"), {})
    call = prepare(str(project), folder=project, parameters=parameters, environment=environment)
    done = subprocess.run(
        call.command(made.run_id, made.experiment_id),
        env=environ | {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return made.run_id


@pytest.mark.parametrize("environment", ["uv", "virtualenv"])
def test_a_small_project(
    tmp_path: Path,
    mlflow_server: MlflowServer,
    environ: dict[str, str],
    environment: Environment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", environ["PATH"])
    project = tmp_path / "small"
    project.mkdir()
    for name, text in SMALL.items():
        (project / name).write_text(text)
    run_id = run(mlflow_server, environ, project, environment, out=tmp_path / "out")
    version, prefix, told = (tmp_path / "out").read_text().splitlines()
    assert (version, told) == ("1.16.0", run_id)
    assert prefix.startswith(str(tmp_path / "environments"))


def test_the_wine_project_with_its_own_packages(
    tmp_path: Path, mlflow_server: MlflowServer, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="install scikit-learn: uv sync --extra demo")
    monkeypatch.setenv("PATH", environ["PATH"])
    datasets.load_wine(as_frame=True).frame.to_parquet(tmp_path / "wine.parquet")
    run_id = run(
        mlflow_server, environ, REPOSITORY / "dag_specs" / "wine" / "project", "uv", data=tmp_path / "wine.parquet"
    )
    client = MlflowClient(Endpoint(mlflow_server.url))
    done = client.get_run(run_id)
    assert done.metrics["accuracy"] > 0.9
    assert client.get_model_of_run(done) is not None
