"""Make the platform's secrets once, in the cluster: what is there is never changed, and nothing is printed but names.

The job of this chart runs ``make_secrets.py SPECIFICATION``, with ENDPOINT, REGION and POSTGRESQL in its environment.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Values = dict[str, str]


class Vault(Protocol):
    """Where secrets lie."""

    def read(self, namespace: str, name: str) -> Values | None:
        """Return the values of a secret; ``None`` if there is none."""

    def write(self, namespace: str, name: str, kind: str, values: Values) -> None:
        """Make a secret; nothing happens if somebody else just has."""


class Maker:
    """Makes secrets from their specification.

    :param vault: where they lie.
    :param installation: ``endpoint``, ``region`` and ``postgresql``.
    """

    def __init__(self, vault: Vault, installation: Mapping[str, str]) -> None:
        self._vault = vault
        self._installation = installation

    def make(self, specification: Sequence[Mapping[str, Any]]) -> list[str]:
        """Make what is not there and return its names.

        :raises SystemExit: if a secret that is there lacks a key, or one names a secret that comes later.
        """
        made = []
        for secret in specification:
            namespace, name = secret["namespace"], secret["name"]
            there = self._vault.read(namespace, name)
            if there is None:
                values = {key: self._value(wish) for key, wish in secret["data"].items()}
                self._vault.write(namespace, name, secret.get("type", "Opaque"), values)
                made.append(f"{namespace}/{name}")
            elif lacking := sorted(secret["data"].keys() - there.keys()):
                raise SystemExit(
                    f"secret {namespace}/{name} is there without {', '.join(lacking)}; add the keys, or delete it to "
                    "have it made anew (what uses it must be started again then)"
                )
        return made

    def _value(self, wish: Mapping[str, Any]) -> str:
        ((how, what),) = wish.items()
        if how == "random":
            return secrets.token_urlsafe(what)
        if how == "fernet":
            return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        if how == "same":
            return self._of(what)
        return re.sub(r"\{([a-z0-9/_.-]+)\}", self._put_in, what, flags=re.IGNORECASE) if how == "join" else str(what)

    def _put_in(self, found: re.Match[str]) -> str:
        name = found[1]
        value = self._installation[name] if name in self._installation else self._of(name)
        return value if name in self._installation and found.string == found[0] else quote(value, safe="")

    def _of(self, path: str) -> str:
        namespace, name, key = path.split("/")
        values = self._vault.read(namespace, name)
        if values is None or key not in values:
            raise SystemExit(f"secret {namespace}/{name} has no key {key}; it must stand earlier in the specification")
        return values[key]


class Cluster:
    """The secrets of this cluster, by the service account of the pod."""

    def __init__(self) -> None:
        from kubernetes import client, config

        config.load_incluster_config()
        self._api = client.CoreV1Api()
        self._errors = client.ApiException

    def read(self, namespace: str, name: str) -> Values | None:
        """Return the values of a secret; ``None`` if there is none."""
        try:
            found = self._api.read_namespaced_secret(name, namespace)
        except self._errors as error:
            if error.status == 404:
                return None
            raise
        return {key: base64.b64decode(value).decode() for key, value in (found.data or {}).items()}

    def write(self, namespace: str, name: str, kind: str, values: Values) -> None:
        """Make a secret; nothing happens if somebody else just has."""
        body = {
            "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "mlplatform"}},
            "type": kind,
            "stringData": values,
        }
        try:
            self._api.create_namespaced_secret(namespace, body)
        except self._errors as error:
            if error.status != 409:
                raise


if __name__ == "__main__":
    place = {name: os.environ[name.upper()] for name in ("endpoint", "region", "postgresql")}
    for made in Maker(Cluster(), place).make(yaml.safe_load(Path(sys.argv[1]).read_text("utf-8"))):
        print("made", made)  # noqa: T201 - the log of the job
