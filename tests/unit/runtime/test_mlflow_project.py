"""A project is found, checked and pinned before anything starts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable
from airflow_mlplatform.runtime.mlflow_project import ProjectCall, prepare
from tests.parts import program

MLPROJECT = """
name: demo
entry_points:
  main:
    parameters:
      data: string
      alpha: {type: float, default: 0.5}
    command: "python train.py {data} {alpha}"
  free:
    command: "python train.py"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    (project / "MLproject").write_text(MLPROJECT)
    (project / "train.py").write_text("print('hello')")
    return tmp_path


def call(folder: Path, **changes: Any) -> ProjectCall:
    return prepare(**{"uri": "project", "folder": folder, "parameters": {"data": "d"}, **changes})


def test_command(folder: Path) -> None:
    command = call(folder, parameters={"data": "a b=c", "alpha": 0.1}, environment="uv").command("r1", "7")
    assert command[1:5] == ["-m", "mlflow", "run", str(folder / "project")]
    assert command[5:] == [
        *("--entry-point", "main", "--run-id", "r1", "--experiment-id", "7", "--env-manager", "uv"),
        *("--param-list", "data=a b=c", "--param-list", "alpha=0.1"),
    ]


def test_image_is_mlflows_local(folder: Path) -> None:
    command = call(folder).command("r1", "7")
    assert command[command.index("--env-manager") + 1] == "local"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"uri": "projct"}, r"no MLflow project at .*/projct: no such folder"),
        ({"uri": "project/train.py"}, "no such folder"),
        ({"entry_point": "mian"}, r"no entry point 'mian', only: free, main"),
        ({"parameters": {}}, "'data' has no default and no value"),
        ({"parameters": {"data": "d", "alhpa": 1}}, "declares no parameter 'alhpa'; did you mean 'alpha'"),
        ({"parameters": {"data": "d", "alpha": "much"}}, "declared float and its value is 'much'"),
        ({"parameters": {"x": 1, "alpha": "much"}}, "'x'.*'data'.*'much'"),
    ],
)
def test_mistakes_are_told_before_the_start(folder: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        call(folder, **changes)


def test_an_entry_point_without_declarations_takes_any_parameter(folder: Path) -> None:
    assert call(folder, entry_point="free", parameters={"x": 1}).parameters == {"x": "1"}


def test_a_script_is_an_entry_point_too(folder: Path) -> None:
    call(folder, entry_point="train.py", parameters={"x": 1})
    (folder / "project" / "MLproject").unlink()
    call(folder, entry_point="train.py")


@pytest.mark.parametrize("login", ["ann:s3cret", ":s3cret", "ghp_s3cret", "glpat-s3cret:x-oauth-basic"])
def test_a_password_in_the_url_is_refused_and_not_shown(folder: Path, login: str) -> None:
    with pytest.raises(ConfigurationError, match="credential helper") as caught:
        call(folder, uri=f"https://{login}@git.example.org/wine.git", version="main")
    assert "s3cret" not in str(caught.value)


def test_a_command_for_another_machine(folder: Path) -> None:
    assert call(folder).command("r1", "7", ("mlflow",))[:2] == ["mlflow", "run"]


def test_an_environment_that_cannot_be_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="conda"):
        call(folder, environment="conda")
    (folder / "project" / "MLproject").write_text(MLPROJECT + "python_env: nowhere.yaml\n")
    with pytest.raises(ConfigurationError, match=r"names python_env: nowhere\.yaml"):
        call(folder)


@pytest.mark.parametrize("text", ["entry_points: [", "- a list", "entry_points: 3", "entry_points: [main]"])
def test_a_broken_mlproject_file(folder: Path, text: str) -> None:
    (folder / "project" / "MLproject").write_text(text)
    with pytest.raises(ConfigurationError, match="MLproject"):
        call(folder)


def test_file_uris_absolute_paths_and_subfolders(folder: Path) -> None:
    expected = call(folder)
    assert call(Path("/"), uri=f"file://{folder}/project") == expected
    assert call(Path("/"), uri=f"{folder}/project") == expected
    assert call(Path("/"), uri=f"{folder}#project") == expected


def test_the_fingerprint_follows_the_code(folder: Path) -> None:
    before = call(folder)
    (folder / "project" / "__pycache__").mkdir()
    (folder / "project" / "__pycache__" / "train.pyc").write_text("made by running it")
    assert call(folder).fingerprint == before.fingerprint
    (folder / "project" / "train.py").write_text("print('hello!')")
    after = call(folder)
    assert after.code_version != before.code_version
    assert after.fingerprint != before.fingerprint
    (folder / "project" / "train.py").rename(folder / "project" / "learn.py")
    assert call(folder).code_version != after.code_version


def test_the_fingerprint_follows_the_call(folder: Path) -> None:
    calls = [call(folder), call(folder, parameters={"data": "e"}), call(folder, environment="uv")]
    assert len({each.fingerprint for each in calls}) == 3
    assert call(folder, parameters={"data": "d", "alpha": 1}) != call(folder)


class TestGit:
    """Repositories on disk, so that no network is needed."""

    @pytest.fixture
    def repository(self, folder: Path) -> Path:
        git = program("git", "install git")

        def run(*arguments: str) -> None:
            identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "tag.gpgsign=false")
            subprocess.run([git, *identity, *arguments], cwd=folder / "project", check=True, capture_output=True)

        run("init", "--initial-branch=main")
        run("add", ".")
        run("commit", "-m", "first")
        run("tag", "-a", "v1", "-m", "annotated")
        run("checkout", "-b", "next")
        run("commit", "--allow-empty", "-m", "second")
        run("checkout", "main")
        return folder / "project"

    def commit(self, repository: Path, name: str) -> str:
        return subprocess.run(
            ["git", "rev-parse", f"{name}^{{commit}}"], cwd=repository, check=True, capture_output=True, text=True
        ).stdout.strip()

    @pytest.mark.parametrize("version", ["main", "next", "v1"])
    def test_versions_are_pinned_to_a_commit(self, repository: Path, version: str) -> None:
        made = call(repository.parent, version=version)
        assert made.version == made.code_version == self.commit(repository, version)
        assert made.command("r", "1")[-4:-2] == ["--version", made.version]

    def test_a_commit_stays(self, repository: Path) -> None:
        assert call(repository.parent, version="a" * 40).version == "a" * 40

    def test_a_version_that_is_not_there(self, repository: Path) -> None:
        with pytest.raises(ConfigurationError, match="no branch or tag 'v9'"):
            call(repository.parent, version="v9")

    def test_a_branch_whose_name_ends_like_another(self, repository: Path) -> None:
        subprocess.run(["git", "branch", "feature/next", "main"], cwd=repository, check=True)
        assert call(repository.parent, version="next").version == self.commit(repository, "next")

    @pytest.mark.parametrize("uri", ["https://127.0.0.1:1/wine.git", "https://127.0.0.1:1/wine.git#sub"])
    def test_a_repository_that_does_not_answer_is_an_outage(self, tmp_path: Path, uri: str) -> None:
        program("git", "install git")
        with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1"):
            call(tmp_path, uri=uri, version="main")

    def test_a_name_that_looks_like_an_option_is_none(self, tmp_path: Path) -> None:
        program("git", "install git")
        with pytest.raises((ConfigurationError, ServiceUnavailable)):
            call(tmp_path, uri="https://127.0.0.1:1/x", version="--upload-pack=touch /tmp/broken")
