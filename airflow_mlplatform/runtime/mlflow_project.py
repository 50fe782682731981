"""An MLflow project and how it is called: found, checked before it starts, and pinned to one version of its code."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import yaml

from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Environment", "ProjectCall", "prepare"]

Environment = Literal["image", "uv", "virtualenv", "conda"]

# Not part of the code: made by running it, or too large to be it.
IGNORED = frozenset({".git", "__pycache__", ".venv", "mlruns", ".ipynb_checkpoints"})
FULL_COMMIT = re.compile(r"^[0-9a-f]{40}$")
GIT_TIMEOUT = 60.0
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

    def command(self, run_id: str, experiment_id: str) -> list[str]:
        """Return the `mlflow run` that continues a run that exists already."""
        manager = "local" if self.environment == "image" else self.environment
        command = [sys.executable, "-m", "mlflow", "run", self.uri, "--entry-point", self.entry_point]
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
    :raises ConfigurationError: if there is no such project, entry point, parameter or version.
    :raises ServiceUnavailable: if the git repository does not answer.
    """
    values = {name: str(value) for name, value in (parameters or {}).items()}
    location, _, subfolder = uri.partition("#")
    path = _local_path(location, folder)
    if path is None and urlsplit(location).password:
        raise ConfigurationError(
            f"project uri {re.sub('//.*@', '//…@', location)} holds a password, which would show in logs and MLflow; "
            "drop it and let git on this machine know it (a credential helper)"
        )
    if path is None or version:
        place = uri if path is None else f"{path}#{subfolder}" if subfolder else str(path)
        commit = None if location.endswith(".zip") else _commit(str(path or location), version)
        return ProjectCall(place, commit, entry_point, values, environment, commit or "")
    project = path / subfolder
    _check(project, entry_point, values)
    return ProjectCall(str(project), None, entry_point, values, environment, _content_hash(project))


def _local_path(location: str, folder: Path) -> Path | None:
    if location.startswith("file://"):
        return Path(location.removeprefix("file://"))
    # git@host:path is a URL without a scheme.
    if "://" in location or re.match(r"^[\w.-]+@[\w.-]+:", location):
        return None
    return (folder / location).resolve()


def _commit(repository: str, version: str | None) -> str:
    if version and FULL_COMMIT.match(version):
        return version
    wanted = version or "HEAD"
    names = [f"refs/tags/{wanted}^{{}}", f"refs/tags/{wanted}", f"refs/heads/{wanted}", wanted]
    found = _remote_references(repository, [wanted, f"{wanted}^{{}}"])
    for name in names:
        if name in found:
            return found[name]
    raise ConfigurationError(
        f"git repository {repository} has no branch or tag {wanted!r}; "
        "correct version: a branch, a tag or a commit in full (40 digits)"
    )


def _remote_references(repository: str, patterns: list[str]) -> dict[str, str]:
    try:
        answer = subprocess.run(
            ["git", "ls-remote", "--", repository, *patterns],
            env=os.environ | {"GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT,
            check=True,
        )
    except FileNotFoundError:
        raise ConfigurationError(
            "git is not installed here and the project lies in a git repository; install git"
        ) from None
    except subprocess.TimeoutExpired:
        raise ServiceUnavailable(
            f"git repository {repository} did not answer in {GIT_TIMEOUT:.0f} s; try again later"
        ) from None
    except subprocess.CalledProcessError as error:
        raise ServiceUnavailable(
            f"git repository {repository} cannot be read: {error.stderr.strip()}; see that the address is right "
            "and that this machine may read it"
        ) from None
    lines = (line.split("\t") for line in answer.stdout.splitlines())
    return {name: commit for commit, name in lines}


def _check(project: Path, entry_point: str, parameters: Mapping[str, str]) -> None:
    if not project.is_dir():
        raise ConfigurationError(f"there is no MLflow project at {project}: no such folder; correct the project's uri")
    entry_points = _entry_points(project)
    if entry_point in entry_points:
        declared = (entry_points[entry_point] or {}).get("parameters") or {}
        _check_parameters(f"{project}, entry point {entry_point!r}", declared, parameters)
    elif not (project / entry_point).is_file():
        known = ", ".join(sorted(entry_points)) or "none"
        raise ConfigurationError(
            f"MLflow project {project} has no entry point {entry_point!r}, only: {known}; "
            "correct entry_point or add it to the MLproject file"
        )


def _entry_points(project: Path) -> dict[str, Any]:
    file = next((path for path in project.iterdir() if path.name.lower() == "mlproject"), None)
    if file is None:
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        return dict(content.get("entry_points") or {})
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


def _content_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in _files(folder):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder)}\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()[:32]}"
