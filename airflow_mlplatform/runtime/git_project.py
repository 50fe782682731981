"""Projects in git repositories: which commit a version means, and its files on disk without any trace of git."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.runtime.git_command import Git
from airflow_mlplatform.runtime.git_login import SCP_LIKE, GitLogin
from airflow_mlplatform.runtime.symlinks import links_out

__all__ = [
    "FULL_COMMIT",
    "Reference",
    "checkout",
    "find_reference",
    "is_repository_url",
    "refuse_credentials",
    "refuse_pointers",
]

FULL_COMMIT = re.compile(r"^([0-9a-f]{40}|[0-9a-f]{64})$")
COMMIT = re.compile(r"^[0-9a-f]{4,64}$")
SCHEMES = ("https", "http", "ssh", "git", "file")
POINTER = b"version https://git-lfs.github.com/spec/"
LARGEST_POINTER = 1024
TOKEN_AS_USER = re.compile(r"^(gh[a-z]_|github_pat_|glpat-)|^[A-Za-z0-9_=-]{32,}$")


@dataclass(frozen=True)
class Reference:
    """A branch or tag of a repository.

    :param name: its full name (``refs/heads/main``), or ``HEAD``.
    :param commit: the commit that it meant when the server was asked.
    """

    name: str
    commit: str


def is_repository_url(location: str) -> bool:
    """Return whether a project's location is a URL (``https://…``, ``git@host:path``) and not a folder."""
    # git@host:path is a URL without a scheme.
    return "://" in location or bool(SCP_LIKE.match(location))


def refuse_credentials(location: str) -> None:
    """Refuse a URL that holds a password or token, which would show in logs and MLflow.

    :raises ConfigurationError: if it does; the message does not repeat it.
    """
    if not is_repository_url(location) or SCP_LIKE.match(location):
        return
    url = urlsplit(location)
    if url.password is not None or TOKEN_AS_USER.match(url.username or ""):
        raise ConfigurationError(
            f"project uri {re.sub('//.*@', '//…@', location)} holds a password, which would show in logs and MLflow; "
            "drop it: on Kubernetes name a Secret in project.secret (app.git.secret), elsewhere let git on this "
            "machine know it (a credential helper)"
        )


def find_reference(git: Git, version: str | None) -> Reference | None:
    """Ask the server what a version means; a tag counts before a branch of the same name.

    :param version: branch or tag, short or in full; ``None`` for the repository's default branch.
    :return: ``None`` if there is neither a branch nor a tag of that name.
    """
    wanted = version or "HEAD"
    found = git.references(wanted, f"{wanted}^{{}}")
    for name in (f"refs/tags/{wanted}", f"refs/heads/{wanted}", wanted):
        if name in found:
            return Reference(name, found.get(f"{name}^{{}}", found[name]))
    return None


def checkout(url: str, version: str | None, folder: Path, login: GitLogin) -> str:
    """Put the files of one version of a repository, with its submodules, into a new folder.

    Only that version is transferred where the server allows it. Nothing of git stays in the folder.

    :param url: URL or absolute path of the repository.
    :param version: branch, tag, commit in full or abbreviated; ``None`` for the default branch.
    :param folder: made here.
    :param login: who reads it.
    :return: the commit.
    :raises ConfigurationError: if there is no such repository or version, or it may not be read.
    :raises ServiceUnavailable: if the server does not answer.
    """
    scheme = urlsplit(url).scheme if "://" in url else "ssh"
    if scheme not in SCHEMES:
        raise ConfigurationError(f"project uri {url}: git knows no {scheme}://; write one of {', '.join(SCHEMES)}")
    with login.environment(url) as env:
        git = Git(url, env, login=login)
        reference = find_reference(git, version)
        _refuse_unknown(url, version, reference)
        folder.mkdir(parents=True)
        commit = _fetch_version(git.at(folder), version or "", reference)
        git.at(folder).run("checkout", "--quiet", "--detach", commit)
        if (folder / ".gitmodules").is_file():
            _fetch_submodules(git.at(folder))
    _refuse_links_out(url, folder)
    _drop_git(folder)
    return commit


def _refuse_unknown(url: str, version: str | None, reference: Reference | None) -> None:
    if reference is None and version is None:
        raise ConfigurationError(f"git repository {url} is empty; push a commit or correct the uri")
    if reference is None and not COMMIT.match(version or ""):
        raise ConfigurationError(
            f"git repository {url} has no branch or tag {version!r}; correct version: a branch, a tag or a commit"
        )


def _fetch_version(git: Git, version: str, reference: Reference | None) -> str:
    # Nothing but the length of a commit tells which hash the repository is made of.
    hashes = "sha256" if len(reference.commit if reference else version) == 64 else "sha1"
    git.run("init", "--quiet", "--template=", f"--object-format={hashes}")
    git.run("remote", "add", "origin", git.url)
    return _fetch_one(git, reference.name) if reference else _fetch_commit(git, version)


def _fetch_one(git: Git, name: str) -> str:
    fetch = ("fetch", "--quiet", "--no-tags")
    try:
        git.run(*fetch, "--depth=1", "origin", name)
    except ConfigurationError:
        # Some servers give no shallow copies.
        git.run(*fetch, "origin", name)
    return _commit(git, "FETCH_HEAD")


def _fetch_commit(git: Git, version: str) -> str:
    try:
        if FULL_COMMIT.match(version):
            return _fetch_one(git, version)
    except ConfigurationError:
        pass  # Some servers give no commits by their number.
    git.run("fetch", "--quiet", "origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
    try:
        return _commit(git, version)
    except ConfigurationError:
        raise ConfigurationError(
            f"git repository {git.url} has no branch, tag or commit {version!r}, or several commits begin with it; "
            "correct version"
        ) from None


def _commit(git: Git, name: str) -> str:
    return git.run("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}").strip()


def _fetch_submodules(git: Git) -> None:
    # Whoever wrote .gitmodules must not make us read repositories of this machine.
    update = ["-c", "protocol.file.allow=never", "submodule", "--quiet", "update", "--init", "--recursive"]
    try:
        git.run(*update, "--depth=1")
    except ConfigurationError:
        git.run(*update)


def _refuse_links_out(url: str, folder: Path) -> None:
    for path in links_out(folder, folder.resolve()):
        raise ConfigurationError(
            f"git repository {url}: {path.relative_to(folder)} is a link that leads out of the repository "
            f"({path.readlink()}); replace it by what it leads to"
        )


def refuse_pointers(folder: Path, shown: str) -> None:
    """Refuse files that are only pointers into Git LFS: training on them would fail late, or not at all.

    :param folder: the project.
    :param shown: how the message names it.
    :raises ConfigurationError: if there are any.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size < LARGEST_POINTER)
    pointers = [str(path.relative_to(folder)) for path in files if path.read_bytes().startswith(POINTER)]
    if pointers:
        raise ConfigurationError(
            f"MLflow project {shown} keeps files in Git LFS, which is not fetched: {', '.join(pointers[:5])}; keep "
            "data in the data pond, and let the project's folder hold code"
        )


def _drop_git(folder: Path) -> None:
    for path in [*folder.rglob(".git")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
