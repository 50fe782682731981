"""How git reads a private repository: the token or key never stands in a command line, a URL or git's own files.

A token reaches git through a credential helper that reads the environment and answers only for the repository's own
server. A key lies in a file that only we may read, as long as git runs. Whatever the repository holds, git runs no
hook, filter or program of it.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_mlplatform.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["GitLogin", "is_ssh", "own_environment"]

SCP_LIKE = re.compile(r"^[\w.-]+@[\w.-]+:(?!//)")
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
# GitHub's name for tokens, which GitLab, Gitea and Azure DevOps take like any other; Bitbucket insists on its own.
USER = "x-access-token"
USERS = {"bitbucket.org": "x-token-auth"}
HELPER = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" '
    '"$MLPLATFORM_GIT_USERNAME" "$MLPLATFORM_GIT_SECRET" || :; }; f'
)
# Where certificates are and how a proxy is spoken to; other GIT_ variables trace secrets or move repositories.
KEPT = re.compile(r"^(?!GIT_|SSH_|MLPLATFORM_)|^GIT_(SSL|PROXY_SSL|HTTP_PROXY)_")
HARMLESS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "credential.helper": "",
    "filter.lfs.process": "",
    "filter.lfs.smudge": "",
    "filter.lfs.required": "false",
    "gc.auto": "0",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
    "init.defaultBranch": "main",
    "protocol.allow": "never",
    **{f"protocol.{name}.allow": "always" for name in ("https", "http", "ssh", "git")},
}
SSH_CONFIG = """\
Host *
  BatchMode yes
  ConnectTimeout 30
  ServerAliveInterval 15
  ServerAliveCountMax 4
  IdentitiesOnly yes
  IdentityAgent none
  IdentityFile "{folder}/key"
  UserKnownHostsFile "{folder}/known_hosts"
  StrictHostKeyChecking {check}
  UpdateHostKeys no
"""


def is_ssh(url: str) -> bool:
    """Return whether git reads this URL through ssh (``ssh://…`` or ``git@host:path``)."""
    return url.startswith("ssh://") or bool(SCP_LIKE.match(url))


def own_environment() -> dict[str, str]:
    """Return the environment in which git asks nobody anything and speaks English; this machine's settings count."""
    return os.environ | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


@dataclass(frozen=True)
class GitLogin:
    """Who reads a repository.

    :param secret: a token or password for https, a private key without passphrase for ssh; empty for a public one.
    :param username: the name that belongs to the token (default: one that the known hosts take for tokens).
    :param known_hosts: lines of OpenSSH's ``known_hosts``; empty to trust the host key that the server shows.
    """

    secret: str = field(default="", repr=False)
    username: str = ""
    known_hosts: str = ""

    def check(self, url: str) -> None:
        """See that the secret is of the kind that the URL needs.

        :raises ConfigurationError: for a key with an https URL, a token with an ssh one, or a token of several lines.
        """
        key = bool(PRIVATE_KEY.search(self.secret))
        if self.secret and is_ssh(url) and not key:
            raise ConfigurationError(
                f"project.secret of {url} is not a private key, which ssh needs; put the key (-----BEGIN … PRIVATE "
                "KEY-----) into the Secret or write the uri as https://…"
            )
        if key and not is_ssh(url):
            raise ConfigurationError(
                f"project.secret of {url} is a private key, which only ssh takes; write the uri as git@host:path or "
                "put a token into the Secret"
            )
        if not key and len(self.secret.split()) > 1:
            raise ConfigurationError(
                f"project.secret of {url} holds blanks or several lines, which no token does; put only the token "
                "into the Secret's key"
            )

    def redact(self, text: str) -> str:
        """Return the text without the secret, should a server have repeated it."""
        for secret in {self.secret, self.secret.strip()} - {""}:
            text = text.replace(secret, "…")
        return text

    @contextmanager
    def environment(self, url: str) -> Iterator[dict[str, str]]:
        """Yield the environment for git; a key's file is there until the block ends.

        :param url: the repository; other servers (of submodules) never see its token.
        """
        self.check(url)
        kept = {name: value for name, value in os.environ.items() if KEPT.match(name)}
        env = kept | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "GIT_LFS_SKIP_SMUDGE": "1"}
        if "SSL_CERT_FILE" in env:
            env.setdefault("GIT_SSL_CAINFO", env["SSL_CERT_FILE"])
        if not is_ssh(url):
            yield env | self._with_token(url)
            return
        with tempfile.TemporaryDirectory(prefix="mlplatform-git-") as folder:
            yield env | _config(HARMLESS) | self._with_key(Path(folder))

    def _with_token(self, url: str) -> dict[str, str]:
        config, server = dict(HARMLESS), urlsplit(url)
        if server.scheme in ("", "file"):
            config["protocol.file.allow"] = "always"
        if not self.secret or not server.hostname:
            return _config(config)
        address = f"{server.scheme}://{server.netloc.rpartition('@')[2]}"
        config[f"credential.{address}.helper"] = HELPER
        # Submodules are often named for ssh although only a token is at hand.
        rewritten = {f"url.{address}/.insteadOf": [f"git@{server.hostname}:", f"ssh://git@{server.hostname}/"]}
        user = self.username.strip() or server.username or USERS.get(server.hostname, USER)
        login = {"MLPLATFORM_GIT_USERNAME": user, "MLPLATFORM_GIT_SECRET": self.secret.strip()}
        return _config(config, rewritten) | login

    def _with_key(self, folder: Path) -> dict[str, str]:
        if self.secret:
            # OpenSSH takes neither Windows' line ends nor a last line without one.
            _write_private(folder / "key", self.secret.replace("\r", "").strip() + "\n")
        _write_private(folder / "known_hosts", self.known_hosts.strip() + "\n")
        check = "yes" if self.known_hosts.strip() else "accept-new"
        _write_private(folder / "config", SSH_CONFIG.format(folder=folder, check=check))
        return {"GIT_SSH_COMMAND": shlex.join(["ssh", "-F", str(folder / "config")]), "GIT_SSH_VARIANT": "ssh"}


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text, encoding="utf-8")


def _config(single: Mapping[str, str], several: Mapping[str, list[str]] | None = None) -> dict[str, str]:
    """Return settings as the variables that git and all its children read."""
    pairs = [*single.items(), *((name, value) for name, values in (several or {}).items() for value in values)]
    env = {"GIT_CONFIG_COUNT": str(len(pairs))}
    for number, (name, value) in enumerate(pairs):
        env |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return env
