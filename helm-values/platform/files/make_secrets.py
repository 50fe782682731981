"""Make the platform's secrets once, in the cluster, and keep those that follow from others true to them.

The job of this chart runs ``make_secrets.py SPECIFICATION``, with DOMAIN, ENDPOINT, REGION and POSTGRESQL in its
environment. What is random is never changed, what somebody else made is not touched, and nothing is printed but names.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Values = dict[str, str]
OURS = {"app.kubernetes.io/part-of": "mlplatform"}
# Browsers refuse certificates that are valid for longer.
VALID_FOR = timedelta(days=397)
RENEWED_BEFORE = timedelta(days=30)


@dataclass(frozen=True)
class Found:
    """A secret that is there.

    :param values: its keys and what they hold.
    :param ours: whether this script made it; what is not ours is never changed.
    """

    values: Values
    ours: bool


class Vault(Protocol):
    """Where secrets lie."""

    def read(self, namespace: str, name: str) -> Found | None:
        """Return a secret; ``None`` if there is none."""

    def create(self, namespace: str, name: str, kind: str, values: Values) -> None:
        """Make a secret; nothing happens if somebody else just has."""

    def change(self, namespace: str, name: str, values: Values) -> None:
        """Set values of a secret that is there."""


class Maker:
    """Makes secrets from their specification.

    :param vault: where they lie.
    :param installation: ``domain``, ``endpoint``, ``region`` and ``postgresql``.
    """

    def __init__(self, vault: Vault, installation: Mapping[str, str]) -> None:
        self._vault = vault
        self._installation = installation

    def make(self, specification: Sequence[Mapping[str, Any]]) -> list[str]:
        """Make what is not there, mend what does not follow any more, and return the names of both.

        :raises SystemExit: if a secret of somebody else lacks a key, or one names a secret that comes later.
        """
        return [f"{one['namespace']}/{one['name']}" for one in specification if self._changed(one)]

    def _changed(self, secret: Mapping[str, Any]) -> bool:
        namespace, name = secret["namespace"], secret["name"]
        found = self._vault.read(namespace, name)
        if found is None:
            self._vault.create(namespace, name, secret.get("type", "Opaque"), self._values(secret, {}))
            return True
        wished = self._values(secret, found.values)
        if found.ours and wished != found.values:
            self._vault.change(namespace, name, wished)
            return True
        if lacking := sorted(wished.keys() - found.values.keys()):
            raise SystemExit(
                f"secret {namespace}/{name} is yours and lacks {', '.join(lacking)}: add the keys, or delete it to "
                "have it made (what uses it must be started again then)"
            )
        return False

    def _values(self, secret: Mapping[str, Any], there: Values) -> Values:
        """What a secret should hold: what is there, unless it follows from something that has changed."""
        if "certificate" in secret:
            names = [self._joined(name) for name in secret["certificate"]]
            return there if _serves(there.get("tls.crt", ""), names) else there | _certificate(names)
        return there | {key: self._value(wish, there.get(key)) for key, wish in secret["data"].items()}

    def _value(self, wish: Mapping[str, Any], there: str | None) -> str:
        ((how, what),) = wish.items()
        if how == "random":
            return there or secrets.token_urlsafe(what)
        if how == "fernet":
            return there or base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        if how == "text":
            return str(what)
        if how == "join":
            return self._joined(what)
        return self._of(what)

    def _joined(self, text: str) -> str:
        return re.sub(r"\{([^{}]+)\}", lambda found: quote(self._of(found[1]), safe=""), text)

    def _of(self, what: str) -> str:
        """A fact of the installation by its name, or the value of another secret by its path."""
        if what in self._installation:
            return self._installation[what]
        namespace, name, key = what.split("/")
        found = self._vault.read(namespace, name)
        if found is None or key not in found.values:
            raise SystemExit(f"secret {namespace}/{name} has no key {key}; it must stand earlier in the specification")
        return found.values[key]


def _certificate(names: Sequence[str]) -> Values:
    """A certificate for these names that signs itself, in the form of ``kubernetes.io/tls``."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        # It is its own authority: who wants no warning adds it to those that the browser trusts.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {"tls.crt": certificate.public_bytes(Encoding.PEM).decode(), "tls.key": private.decode()}


def _serves(pem: str, names: Sequence[str]) -> bool:
    """Whether a certificate is for these names, and will be for a while."""
    from cryptography import x509

    if not pem:
        return False
    certificate = x509.load_pem_x509_certificate(pem.encode())
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    fresh = certificate.not_valid_after_utc > datetime.now(UTC) + RENEWED_BEFORE
    return fresh and alternative.get_values_for_type(x509.DNSName) == list(names)


class Cluster:
    """The secrets of this cluster, by the service account of the pod."""

    def __init__(self) -> None:
        from kubernetes import client, config

        config.load_incluster_config()
        self._api = client.CoreV1Api()
        self._errors = client.ApiException

    def read(self, namespace: str, name: str) -> Found | None:
        """Return a secret; ``None`` if there is none."""
        try:
            found = self._api.read_namespaced_secret(name, namespace)
        except self._errors as error:
            if error.status == 404:
                return None
            raise
        values = {key: base64.b64decode(value).decode() for key, value in (found.data or {}).items()}
        return Found(values, ours=OURS.items() <= (found.metadata.labels or {}).items())

    def create(self, namespace: str, name: str, kind: str, values: Values) -> None:
        """Make a secret; nothing happens if somebody else just has."""
        body = {"metadata": {"name": name, "labels": OURS}, "type": kind, "stringData": values}
        try:
            self._api.create_namespaced_secret(namespace, body)
        except self._errors as error:
            if error.status != 409:
                raise

    def change(self, namespace: str, name: str, values: Values) -> None:
        """Set values of a secret that is there."""
        self._api.patch_namespaced_secret(name, namespace, {"stringData": values})


if __name__ == "__main__":
    place = {name: os.environ[name.upper()] for name in ("domain", "endpoint", "region", "postgresql")}
    for made in Maker(Cluster(), place).make(yaml.safe_load(Path(sys.argv[1]).read_text("utf-8"))):
        print("made", made)  # noqa: T201 - the log of the job
