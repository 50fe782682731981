"""What git, ssh and the well-known hosts say is told apart: mistakes that stay, outages that pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable
from airflow_mlplatform.runtime.git_command import Git
from airflow_mlplatform.runtime.git_login import GitLogin

URL = "https://git.example.org/not found/wine.git"
SSH_END = (
    "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\n"
    "and the repository exists."
)
LASTING = {
    "ERROR: Repository not found.\n" + SSH_END: "correct the uri",
    "git@github.com: Permission denied (publickey).\n" + SSH_END: "project.secret",
    'Load key "/tmp/key": error in libcrypto\ngit@host: Permission denied (publickey).\n' + SSH_END: "whole",
    "No ED25519 host key is known for host and you have requested strict checking.\n"
    "Host key verification failed.\n" + SSH_END: "ssh-keyscan",
    "No user exists for uid 50000\n" + SSH_END: "/etc/passwd",
    "ERROR: The 'x' organization has enabled or enforced SAML SSO. To access this repository, you must use the HTTPS "
    "remote with a personal access token or SSH with an SSH key and passphrase\n" + SSH_END: "project.secret",
    "remote: HTTP Basic: Access denied.\nfatal: Authentication failed for 'https://x'": "project.secret",
    "fatal: could not read Username for 'https://github.com': terminal prompts disabled": "project.secret",
    "remote: Write access to repository not granted.\nfatal: unable to access 'x': The requested URL returned error: "
    "403": "project.secret",
    "remote: The project you were looking for could not be found or you don't have permission to view it.\n"
    "fatal: repository 'x' not found": "correct the uri",
    "fatal: unable to access 'x': server certificate verification failed. CAfile: none CRLfile: none": "GIT_SSL_CAINFO",
    "fatal: unable to access 'x': SSL certificate problem: unable to get local issuer certificate": "GIT_SSL_CAINFO",
    "fatal: detected dubious ownership in repository at '/repositories/wine.git'": "another user",
    "fatal: transport 'file' not allowed": "correct the uri",
}
PASSING = [
    "ssh: connect to host git.example.org port 22: Connection timed out\n" + SSH_END,
    "ssh: Could not resolve hostname not-found.example.org: Name or service not known\n" + SSH_END,
    "kex_exchange_identification: read: Connection reset by peer\n" + SSH_END,
    "fatal: unable to access 'x': Could not resolve host: git.example.org",
    "fatal: unable to access 'x': Failed to connect to git.example.org port 443 after 3 ms: Couldn't connect to server",
    "fatal: unable to access 'x': The requested URL returned error: 502",
    "fatal: unable to access 'x': The requested URL returned error: 429",
    "fatal: unable to access 'x': gnutls_handshake() failed: The TLS connection was non-properly terminated.",
    "error: RPC failed; curl 92 HTTP/2 stream 0 was not closed cleanly\nfatal: early EOF\n"
    "fatal: fetch-pack: invalid index-pack output",
    "fatal: write error: No space left on device",
    f"fatal: unable to access '{URL}': something new",
    "",
]


def git_that_says(folder: Path, text: str, login: GitLogin | None = None) -> Git:
    (folder / "said").write_text(text)
    (folder / "git").write_text(f"#!/bin/sh\ncat '{folder}/said' >&2\nexit 128\n")
    (folder / "git").chmod(0o755)
    return Git(URL, {"PATH": f"{folder}:/usr/bin:/bin"}, login=login or GitLogin())


@pytest.mark.parametrize("said", LASTING)
def test_mistakes(tmp_path: Path, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        git_that_says(tmp_path, said).run("fetch")
    assert LASTING[said] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("said", PASSING)
def test_outages(tmp_path: Path, said: str) -> None:
    with pytest.raises(ServiceUnavailable, match=r"cannot be read now"):
        git_that_says(tmp_path, said).run("fetch")


def test_a_server_that_repeats_the_token(tmp_path: Path) -> None:
    git = git_that_says(tmp_path, "remote: no such token: s3cret\x1b[2J", GitLogin("s3cret\n"))
    with pytest.raises(ServiceUnavailable, match="no such token: …") as caught:
        git.run("fetch")
    assert str(caught.value).isprintable()


def test_a_server_that_says_nothing(tmp_path: Path) -> None:
    git = git_that_says(tmp_path, "")
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(ServiceUnavailable, match="did not answer in 0 s"):
        git.run("fetch", timeout=0.1)


def test_no_git(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="git is not installed here"):
        Git(URL, {"PATH": str(tmp_path)}).run("fetch")
