"""What an environment needs is missed before the training starts, on this machine and in any image."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.runtime.mlflow_project import read_mlproject
from airflow_mlplatform.runtime.project_environment import Environment, check_environment, in_image, require_program


def program(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text('#!/bin/sh\necho "$0" "$@"\n')
        (folder / name).chmod(0o755)


class TestInImage:
    """The shell's look around, in a folder that stands for the image's PATH."""

    def run(self, image: Path, environment: Environment, **env: str) -> subprocess.CompletedProcess[str]:
        command = in_image(["mlflow", "run", "a b", "--param-list", "x=$(id)"], environment)
        command[0] = "/bin/sh"
        return subprocess.run(command, env={"PATH": str(image), **env}, capture_output=True, text=True, check=False)

    @pytest.mark.parametrize("environment", ["image", "uv", "virtualenv", "conda"])
    def test_with_everything_there_the_command_runs_unchanged(self, tmp_path: Path, environment: Environment) -> None:
        program(tmp_path, "bash", "mlflow", "uv", "pyenv", "conda")
        done = self.run(tmp_path, environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{tmp_path}/mlflow run a b --param-list x=$(id)\n"

    @pytest.mark.parametrize(("environment", "missing"), [("uv", "uv"), ("virtualenv", "pyenv"), ("conda", "conda")])
    def test_what_is_missing_is_named(self, tmp_path: Path, environment: Environment, missing: str) -> None:
        program(tmp_path, "bash", "mlflow")
        done = self.run(tmp_path, environment)
        assert done.returncode == 78
        assert f"lacks {missing}, which environment: {environment} needs" in done.stderr
        assert done.stdout == ""

    def test_an_image_without_mlflow(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "image")
        assert done.returncode == 78
        assert "lacks bash mlflow," in done.stderr

    def test_conda_where_mlflow_is_told_to_look_for_it(self, tmp_path: Path) -> None:
        program(tmp_path, "bash", "mlflow")
        program(tmp_path / "miniforge" / "bin", "conda")
        assert self.run(tmp_path, "conda", MLFLOW_CONDA_HOME=str(tmp_path / "miniforge")).returncode == 0


@pytest.mark.parametrize(("environment", "name"), [("uv", "uv"), ("virtualenv", "pyenv"), ("conda", "conda")])
def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: Environment, name: str) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", os.defpath.replace(":", "/nowhere:"))
    monkeypatch.delenv("MLFLOW_CONDA_HOME", raising=False)
    require_program("image")
    with pytest.raises(ConfigurationError, match=f"{name} is not installed here"):
        require_program(environment)
    program(tmp_path, name)
    require_program(environment)


@pytest.mark.parametrize(
    ("files", "environment", "words"),
    [
        ({"MLproject": "python_env: env.yaml"}, "uv", "names python_env: env.yaml, and there is no such file"),
        ({"MLproject": "conda_env: env.yaml"}, "image", "names conda_env: env.yaml, and there is no such file"),
        ({"MLproject": "python_env: env.yaml", "env.yaml": ""}, "conda", "has no conda environment"),
        ({"python_env.yaml": "", "conda.yaml": ""}, "conda", "has no conda environment"),
        ({}, "conda", "has no conda environment"),
    ],
)
def test_projects_that_do_not_fit(tmp_path: Path, files: dict[str, str], environment: Any, words: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        check_environment(tmp_path, read_mlproject(tmp_path), environment, "wine")


@pytest.mark.parametrize(
    "files",
    [
        {"MLproject": "conda_env: env.yaml", "env.yaml": ""},
        {"conda.yaml": ""},
        {"MLproject": "conda_env: conda.yaml", "conda.yaml": ""},
    ],
)
def test_projects_of_conda(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for environment in ("conda", "uv", "virtualenv", "image"):
        check_environment(tmp_path, read_mlproject(tmp_path), environment, "wine")
