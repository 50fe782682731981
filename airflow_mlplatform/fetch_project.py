"""Bring an MLflow project into a training pod and check it there, before anything heavy starts; or an app's code.

The init container of a training pod or streaming app runs ``python -m airflow_mlplatform.fetch_project`` with these
variables:

MLPLATFORM_PROJECT
    JSON of :class:`Request`: which project, how it is called, and where it goes.
MLPLATFORM_GIT_SECRET, MLPLATFORM_GIT_USERNAME, MLPLATFORM_GIT_KNOWN_HOSTS
    what reads a private repository (:class:`~airflow_mlplatform.runtime.git_login.GitLogin`); no other container has
    them.

What it found goes to the pod's termination message: ``{"code_version": …, "commit": …}``, or the reason why there is no
project. Exit code 75 means an outage, which may pass; 78 a mistake, which will not.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable, UnsupportedHere
from airflow_mlplatform.project_folder import BundleFolder, Found, copy_folder, find_folder
from airflow_mlplatform.runtime.git_login import GitLogin, is_ssh
from airflow_mlplatform.runtime.git_project import checkout, is_repository_url, refuse_credentials, refuse_pointers
from airflow_mlplatform.runtime.mlflow_project import check_project, content_hash, read_mlproject
from airflow_mlplatform.runtime.project_environment import Environment, check_environment, refuse_docker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Request", "fetch", "main"]

log = logging.getLogger(__name__)

TERMINATION_LOG = "/dev/termination-log"
LONGEST_MESSAGE = 4000  # Kubernetes keeps 4096 bytes
FOLDER_MODE, FILE_MODE = 0o770, 0o060


class Request(BaseModel):
    """Which project is wanted, how it is called and where it goes.

    :param uri: git URL, absolute path, or folder relative to the spec (``…#subfolder``).
    :param version: branch, tag or commit of a git repository.
    :param entry_point: how the project is called; ``None`` for code that is no MLflow project, and is not checked.
    :param environment: where the project's packages come from.
    :param bundle: where the spec lies.
    :param folder: the spec's folder as the DAG processor saw it; used where the bundle does not have it.
    :param target: the project appears here; a link if it is a subfolder of a repository, which then lies beside it.
    """

    model_config = ConfigDict(frozen=True)

    uri: str
    version: str | None = None
    entry_point: str | None = "main"
    parameters: dict[str, Any] = {}
    environment: Environment = "image"
    bundle: BundleFolder | None = None
    folder: Path | None = None
    target: Path

    @property
    def location(self) -> str:
        """The repository or folder, without the subfolder."""
        return self.uri.partition("#")[0]

    @property
    def subfolder(self) -> str:
        """The project's folder inside it; empty if it is the project itself."""
        return self.uri.partition("#")[2].strip("/")


def fetch(request: Request, login: GitLogin) -> dict[str, str | None]:
    """Put the project at its target, check that the call fits it, and pin its code.

    Leftovers of a try that was killed are replaced.

    :param login: who reads a git repository.
    :return: ``code_version`` (the commit, or a hash of the files) and ``commit`` (``None`` for a folder).
    :raises ConfigurationError: if there is no such project, version, entry point or parameter, or no permission.
    :raises ServiceUnavailable: if the repository or the bundle cannot be reached now.
    """
    refuse_credentials(request.location)
    if request.location.endswith(".zip"):
        raise UnsupportedHere(
            f"project uri {request.uri} is a zip file, which training pods do not take; put the project into a git "
            "repository, beside the spec or into the image"
        )
    whole = request.target.with_name(f"{request.target.name}.whole")
    for leftover in (request.target, whole):
        _remove(leftover)
    commit = _bring(request, login, whole)
    _place(request, whole)
    _check(request)
    _open_to_group(whole if request.subfolder else request.target)
    return {"code_version": commit or content_hash(request.target), "commit": commit}


def _check(request: Request) -> None:
    if request.entry_point is None:
        return
    values = {name: str(value) for name, value in request.parameters.items()}
    check_project(request.target, request.entry_point, values, shown=request.uri)
    mlproject = read_mlproject(request.target)
    refuse_docker(mlproject, request.uri)
    refuse_pointers(request.target, request.uri)
    check_environment(request.target, mlproject, request.environment, request.uri)


def _bring(request: Request, login: GitLogin, whole: Path) -> str | None:
    """Put the repository or folder, subfolder and all, to `whole`; return the commit, if it has one."""
    repository = _repository(request)
    if repository is None:
        copy_folder(_folder(request), whole)
        return None
    if login.secret and repository.startswith("http://"):
        log.warning("The token for %s travels unencrypted; https would protect it", repository)
    if is_ssh(repository) and not login.known_hosts.strip():
        log.warning("Nothing vouches for the server of %s: add its host keys as known_hosts to the Secret", repository)
    return checkout(repository, request.version, whole, login)


def _repository(request: Request) -> str | None:
    location = request.location
    if not location.startswith("file://"):
        if is_repository_url(location):
            return location
        return str(_folder(request).path) if request.version else None
    path = Path(location.removeprefix("file://"))
    bare = (path / "HEAD").is_file() and (path / "objects").is_dir()
    return location if request.version or bare else None


def _folder(request: Request) -> Found:
    return find_folder(request.location.removeprefix("file://"), request.bundle, request.folder)


def _place(request: Request, whole: Path) -> None:
    if not request.subfolder:
        whole.replace(request.target)
        return
    project = (whole / request.subfolder).resolve()
    if not project.is_relative_to(whole.resolve()) or not project.is_dir():
        raise ConfigurationError(
            f"{request.location} has no folder {request.subfolder!r}; correct the uri behind the #"
        )
    # The whole repository stays: projects import what lies beside them. The link keeps the project at one place.
    request.target.symlink_to(project.relative_to(request.target.parent.resolve()))


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        _open_to_group(path)
        shutil.rmtree(path)


def _open_to_group(folder: Path) -> None:
    """Let the training container, which may run as another user of the same group, write into the project."""
    for place, _, files in os.walk(folder):
        Path(place).chmod(Path(place).stat().st_mode | FOLDER_MODE)
        for path in (Path(place, name) for name in files):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | FILE_MODE)


def _read(environ: Mapping[str, str]) -> tuple[Request, GitLogin]:
    try:
        request = Request.model_validate_json(environ.get("MLPLATFORM_PROJECT", ""))
    except ValidationError as error:
        raise ConfigurationError(
            f"the environment variable MLPLATFORM_PROJECT does not describe a project: {error.errors()[0]['msg']}; "
            "this container and Airflow need the same version of this package"
        ) from None
    login = GitLogin(
        environ.get("MLPLATFORM_GIT_SECRET", ""),
        environ.get("MLPLATFORM_GIT_USERNAME", ""),
        environ.get("MLPLATFORM_GIT_KNOWN_HOSTS", ""),
    )
    return request, login


def _attempt() -> tuple[int, str]:
    """Return exit code and termination message."""
    try:
        request, login = _read(os.environ)
        found = fetch(request, login)
    except ConfigurationError as error:
        return os.EX_CONFIG, str(error)
    except ServiceUnavailable as error:
        return os.EX_TEMPFAIL, str(error)
    except OSError as error:
        return os.EX_TEMPFAIL, f"the project cannot be written: {error}; see that the pod's volume has room"
    log.info("Fetched %s, code version %s", request.uri, found["code_version"])
    return os.EX_OK, json.dumps(found)


def _stop(_signal: int, _frame: object) -> None:
    # As first process of a container we would otherwise ignore SIGTERM; this way the key's file is removed too.
    raise SystemExit(128 + signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the init container and return its exit code.

    :param arguments: command line (default: that of the process).
    """
    parser = argparse.ArgumentParser(
        prog="airflow_mlplatform.fetch_project", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--result", type=Path, default=Path(TERMINATION_LOG), help="file for the outcome")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _stop)
    code, message = _attempt()
    if code:
        log.error("%s", message)
    options.result.write_text(message.encode()[:LONGEST_MESSAGE].decode(errors="ignore"), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
