"""git, run without a terminal; its failures told apart: mistakes that stay, and outages that pass."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable
from airflow_mlplatform.runtime.git_login import GitLogin

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Git"]

LOOK_TIMEOUT = 60.0
FETCH_TIMEOUT = 3600.0
LONGEST_REASON = 800
# What git and ssh say, in English. Outages go first: ssh ends every report with a guess about access rights.
PASSING = (
    r"Could not resolve|Name or service not known|[Tt]imed out|Connection (refused|reset|closed)|Failed to connect"
    r"|returned error: (5\d\d|408|429)"
)
# What will not pass, and what to do about it. The first that fits counts: ssh reports a broken key and then, as for
# everything, that permission is denied. What is unknown is taken for an outage.
LASTING = {
    r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED": "the server's host key is not the expected one; "
    "put what `ssh-keyscan HOST` prints, checked, as known_hosts beside the key in the Secret",
    r"error in libcrypto|invalid format|incorrect passphrase": "the private key cannot be read; store it whole and "
    "without a passphrase",
    r"No user exists for uid": "ssh needs an entry for this user in the image's /etc/passwd; add one or use https",
    r"certificate verification failed|SSL certificate problem|SSL CA cert|certificate subject name": (
        "the server's certificate is not trusted here; name the file with its CA in GIT_SSL_CAINFO"
    ),
    r"Authentication failed|could not read (Username|Password)|returned error: 40[13]|Permission denied"
    r"|Too many authentication failures|SAML SSO": "name a Kubernetes Secret with a token (https) or "
    "private key (ssh) that may read it in project.secret (app.git.secret)",
    r"not (be )?found|not appear to be a git repository|not exported|does not exist|returned error: 404": "correct the "
    "uri; a private repository looks like this too where project.secret (app.git.secret) lacks or may not read it",
    r"dubious ownership": "the repository's folder belongs to another user; give it to this one or read it from a "
    "git server",
    r"transport '.*' not allowed|[Pp]rotocol .* not supported|find remote helper|strange (host|path)name": (
        "correct the uri"
    ),
    r"shallow|unadvertised object|not our ref|find remote ref|Needed a single revision|expected commit type"
    r"|[Ss]ubmodule": "correct version or the repository",
}


@dataclass(frozen=True)
class Git:
    """git for one repository.

    :param url: the repository, for messages.
    :param env: the whole environment of git.
    :param folder: where it runs.
    :param login: whose secret must not show in messages.
    """

    url: str
    env: Mapping[str, str]
    folder: Path | None = None
    login: GitLogin = field(default_factory=GitLogin)

    def at(self, folder: Path) -> Git:
        """Return the same git, running in a folder."""
        return replace(self, folder=folder)

    def run(self, *arguments: str, timeout: float = FETCH_TIMEOUT) -> str:
        """Run git and return what it prints.

        :param arguments: its command line; never holds a secret.
        :param timeout: seconds.
        :raises ConfigurationError: for what no retry can mend: no such repository, no permission, no git.
        :raises ServiceUnavailable: if the server does not answer, or for reasons that we do not know.
        """
        try:
            done = subprocess.run(
                ["git", *arguments],
                env=dict(self.env),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except FileNotFoundError:
            raise ConfigurationError(
                "git is not installed here and the project lies in a git repository; install git"
            ) from None
        except subprocess.TimeoutExpired:
            raise ServiceUnavailable(
                f"git repository {self.url} did not answer in {timeout:.0f} s; try again later"
            ) from None
        if done.returncode:
            raise self._failure(done.stderr)
        return done.stdout

    def references(self, *patterns: str) -> dict[str, str]:
        """Ask the server for branches and tags.

        :param patterns: names, as `git ls-remote` takes them.
        :return: commits (or tag objects) by full name.
        """
        answer = self.run("ls-remote", "--", self.url, *patterns, timeout=LOOK_TIMEOUT)
        lines = (line.split("\t") for line in answer.splitlines())
        return {name: commit for commit, name in lines}

    def _failure(self, said: str) -> ConfigurationError | ServiceUnavailable:
        reason = self.login.redact(_paragraph(said))
        # The address may hold any words itself.
        told = "" if re.search(PASSING, reason) else reason.replace(self.url, "")
        for pattern, advice in LASTING.items():
            if re.search(pattern, told):
                return ConfigurationError(f"git repository {self.url} cannot be read: {reason}; {advice}")
        return ServiceUnavailable(
            f"git repository {self.url} cannot be read now: {reason}; see that the server is up and that it can be "
            "reached from here"
        )


def _paragraph(said: str) -> str:
    lines = [line.strip() for line in said.splitlines()]
    text = " ".join(line for line in lines if line and "Permanently added" not in line)
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return printable[-LONGEST_REASON:] or "git ended without a word"
