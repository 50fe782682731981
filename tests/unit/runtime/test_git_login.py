"""The environment of git: what is in it, and for whom."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.runtime.git_login import GitLogin

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----"
HTTPS = "https://git.example.org:8443/wine.git"


def settings(env: dict[str, str]) -> list[tuple[str, str]]:
    count = int(env["GIT_CONFIG_COUNT"])
    return [(env[f"GIT_CONFIG_KEY_{number}"], env[f"GIT_CONFIG_VALUE_{number}"]) for number in range(count)]


@pytest.mark.parametrize(
    ("url", "given", "user"),
    [
        (HTTPS, "", "x-access-token"),
        ("https://bitbucket.org/team/wine.git", "", "x-token-auth"),
        ("https://ann@bitbucket.org/team/wine.git", "", "ann"),
        ("https://ann@git.example.org/wine.git", " deploy-7\n", "deploy-7"),
    ],
)
def test_the_user_of_a_token(url: str, given: str, user: str) -> None:
    with GitLogin("t0ken\n", given).environment(url) as env:
        assert env["MLPLATFORM_GIT_USERNAME"] == user
        assert env["MLPLATFORM_GIT_SECRET"] == "t0ken"


def test_the_token_is_for_one_server_only() -> None:
    with GitLogin("t0ken").environment(HTTPS) as env:
        helpers = [name for name, value in settings(env) if name.startswith("credential.") and value]
        assert helpers == ["credential.https://git.example.org:8443.helper"]
        assert not [text for pair in settings(env) for text in pair if "t0ken" in text]


def test_without_a_token_nothing_answers() -> None:
    with GitLogin().environment(HTTPS) as env:
        assert ("credential.helper", "") in settings(env)
        assert "MLPLATFORM_GIT_SECRET" not in env


@pytest.mark.parametrize("name", ["GIT_TRACE", "GIT_CURL_VERBOSE", "GIT_DIR", "GIT_ASKPASS", "SSH_AUTH_SOCK"])
def test_what_would_trace_or_redirect_git_is_dropped(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.setenv("GIT_SSL_CAINFO", "/ca")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    with GitLogin().environment(HTTPS) as env:
        assert name not in env
        assert (env["GIT_SSL_CAINFO"], env["HTTPS_PROXY"]) == ("/ca", "http://proxy")


def test_a_key_lies_in_a_file_as_long_as_git_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPLATFORM_GIT_SECRET", KEY)
    with GitLogin(KEY, known_hosts="host ssh-ed25519 AAA").environment("git@host:wine.git") as env:
        config = Path(shlex.split(env["GIT_SSH_COMMAND"])[-1])
        assert (config.parent / "key").read_text() == KEY + "\n"
        assert {path.stat().st_mode & 0o777 for path in config.parent.iterdir()} == {0o600}
        assert config.parent.stat().st_mode & 0o777 == 0o700
        assert "StrictHostKeyChecking yes" in config.read_text()
        assert not [value for value in env.values() if "PRIVATE KEY" in value]
    assert not config.parent.exists()


def test_only_repositories_that_the_spec_names_are_read_from_disk() -> None:
    for url, allowed in ((HTTPS, False), ("git@host:wine.git", False), ("file:///wine.git", True), ("/wine.git", True)):
        with GitLogin().environment(url) as env:
            assert (("protocol.file.allow", "always") in settings(env)) is allowed
            assert ("protocol.allow", "never") in settings(env)


@pytest.mark.parametrize(
    ("url", "secret"), [(HTTPS, KEY), ("git@host:wine.git", "t0ken"), ("ssh://host/wine.git", "t0ken"), (HTTPS, "a b")]
)
def test_secrets_of_the_wrong_kind(url: str, secret: str) -> None:
    with pytest.raises(ConfigurationError) as caught, GitLogin(secret).environment(url):
        pass
    assert secret not in str(caught.value)


def test_it_does_not_show() -> None:
    assert "t0ken" not in repr(GitLogin("t0ken"))
