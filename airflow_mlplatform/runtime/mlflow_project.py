"""An MLflow project and how it is called: found, checked before it starts, and pinned to one version of its code."""

from __future__ import annotations

import difflib
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.runtime.git_command import Git
from airflow_mlplatform.runtime.git_login import own_environment
from airflow_mlplatform.runtime.git_project import (
    FULL_COMMIT,
    find_reference,
    is_repository_url,
    refuse_credentials,
)
from airflow_mlplatform.runtime.project_environment import Environment, check_environment, require_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["IGNORED", "Environment", "ProjectCall", "check_project", "content_hash", "prepare", "read_mlproject"]

# Not part of the code: made by running it, or too large to be it.
IGNORED = frozenset({".git", "__pycache__", ".venv", "mlruns", ".ipynb_checkpoints"})
NUMBER_TYPES = frozenset({"float"})


@dataclass(frozen=True)
class ProjectCall:
    """A project at one version of its code, with an entry point and its parameters.

    :param uri: folder, or URL of a git repository or zip file, as `mlflow run` takes it (``…#subfolder``).
    :param version: commit to check out; ``None`` for a folder as it is.
    :param code_version: commit, or ``sha256:…`` of a folder's content; empty if it cannot be told.
    """

    uri: str
    version: str | None
    entry_point: str
    parameters: Mapping[str, str]
    environment: Environment
    code_version: str

    @property
    def fingerprint(self) -> str:
        """Equal for two calls that do the same work."""
        parts = [self.uri, self.code_version, self.entry_point, sorted(self.parameters.items()), self.environment]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def command(
        self, run_id: str, experiment_id: str, program: Sequence[str] = (sys.executable, "-m", "mlflow")
    ) -> list[str]:
        """Return the `mlflow run` that continues a run that exists already.

        :param program: how MLflow is started where the command runs (default: the MLflow of this Python).
        """
        manager = "local" if self.environment == "image" else self.environment
        command = [*program, "run", self.uri, "--entry-point", self.entry_point]
        command += ["--run-id", run_id, "--experiment-id", experiment_id, "--env-manager", manager]
        command += ["--version", self.version] if self.version else []
        for name, value in self.parameters.items():
            command += ["--param-list", f"{name}={value}"]
        return command


def prepare(
    uri: str,
    *,
    folder: Path,
    version: str | None = None,
    entry_point: str = "main",
    parameters: Mapping[str, Any] | None = None,
    environment: Environment = "image",
) -> ProjectCall:
    """Find a project, pin its code and check, where it is a folder, that the call fits it.

    :param uri: folder (relative ones start at ``folder``), or URL of a git repository or zip file.
    :param folder: where relative folders start.
    :param version: branch, tag or full commit of a git repository.
    :param parameters: values of the entry point's parameters; they become text, as in MLflow.
    :raises ConfigurationError: if there is no such project, entry point, parameter or version, or this machine lacks
        what its environment is made with.
    :raises ServiceUnavailable: if the git repository does not answer.
    """
    values = {name: str(value) for name, value in (parameters or {}).items()}
    location, _, subfolder = uri.partition("#")
    refuse_credentials(location)
    require_program(environment)
    path = _local_path(location, folder)
    if path is None or version:
        place = uri if path is None else f"{path}#{subfolder}" if subfolder else str(path)
        commit = None if location.endswith(".zip") else _commit(str(path or location), version)
        return ProjectCall(place, commit, entry_point, values, environment, commit or "")
    project = path / subfolder
    check_project(project, entry_point, values)
    check_environment(project, read_mlproject(project), environment, str(project))
    return ProjectCall(str(project), None, entry_point, values, environment, content_hash(project))


def _local_path(location: str, folder: Path) -> Path | None:
    if location.startswith("file://"):
        return Path(location.removeprefix("file://"))
    return None if is_repository_url(location) else (folder / location).resolve()


def _commit(repository: str, version: str | None) -> str:
    if version and FULL_COMMIT.match(version):
        return version
    reference = find_reference(Git(repository, own_environment()), version)
    if reference is None:
        raise ConfigurationError(
            f"git repository {repository} has no branch or tag {version or 'HEAD'!r}; "
            "correct version: a branch, a tag or a commit in full (40 digits)"
        )
    return reference.commit


def check_project(project: Path, entry_point: str, parameters: Mapping[str, str], shown: str = "") -> None:
    """See that a project is there and that the call fits it.

    :param project: its folder.
    :param parameters: values of the entry point's parameters.
    :param shown: how messages name the project (default: the folder).
    :raises ConfigurationError: if there is no such project, entry point or parameter, or a value does not fit.
    """
    shown = shown or str(project)
    if not project.is_dir():
        raise ConfigurationError(f"there is no MLflow project at {shown}: no such folder; correct the project's uri")
    entry_points = read_mlproject(project).get("entry_points", {})
    if entry_point in entry_points:
        declared = (entry_points[entry_point] or {}).get("parameters") or {}
        _check_parameters(f"{shown}, entry point {entry_point!r}", declared, parameters)
    elif not (project / entry_point).is_file():
        known = ", ".join(sorted(entry_points)) or "none"
        raise ConfigurationError(
            f"MLflow project {shown} has no entry point {entry_point!r}, only: {known}; "
            "correct entry_point or add it to the MLproject file"
        )


def read_mlproject(project: Path) -> dict[str, Any]:
    """Return the content of a project's MLproject file; nothing if it has none.

    :raises ConfigurationError: if the file cannot be read.
    """
    file = next((path for path in project.iterdir() if path.name.lower() == "mlproject"), None)
    if file is None:
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        return {**content, "entry_points": dict(content.get("entry_points") or {})}
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}; correct the file") from error


def _check_parameters(where: str, declared: Mapping[str, Any], given: Mapping[str, str]) -> None:
    problems = []
    for name in sorted(set(given) - set(declared)) if declared else ():
        near = difflib.get_close_matches(name, declared, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "declare it in the MLproject file or drop it"
        problems.append(f"it declares no parameter {name!r}; {hint}")
    for name, declaration in declared.items():
        kind, default = _type_and_default(declaration)
        if name not in given and default is None:
            problems.append(f"parameter {name!r} has no default and no value; add it to parameters")
        if name in given and kind in NUMBER_TYPES and not _is_number(given[name]):
            problems.append(f"parameter {name!r} is declared {kind} and its value is {given[name]!r}; write a number")
    if problems:
        raise ConfigurationError(f"MLflow project {where}: " + "; ".join(problems))


def _type_and_default(declaration: Any) -> tuple[str, Any]:
    if isinstance(declaration, dict):
        return str(declaration.get("type", "string")), declaration.get("default")
    return str(declaration), None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in IGNORED:
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path


def content_hash(folder: Path) -> str:
    """Return the version of a folder's code: equal for equal files, whatever running it has left there."""
    digest = hashlib.sha256()
    for path in _files(folder):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder)}\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()[:32]}"
