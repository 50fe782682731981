"""Certificates of a test's own: an authority, and what it signs, in the formats of Python (PEM) and Java (PKCS12)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.serialization import KeySerializationEncryption

STORE_PASSWORD = "changeit"


@dataclass(frozen=True)
class Signed:
    """A certificate with its key.

    :param certificate: PEM file.
    :param key: PEM file.
    :param store: both as PKCS12, sealed with `STORE_PASSWORD`.
    """

    certificate: Path
    key: Path
    store: Path


@dataclass
class Authority:
    """Signs certificates.

    :param folder: where all files lie.
    """

    folder: Path
    _key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        authority = x509.BasicConstraints(ca=True, path_length=None)
        self._own = self._builder("authority", self._key).add_extension(authority, critical=True).sign(self._key, SHA)
        self.certificate.write_bytes(self._own.public_bytes(Encoding.PEM))
        trusted = pkcs12.PKCS12Certificate(self._own, b"authority")
        self.truststore.write_bytes(pkcs12.serialize_java_truststore([trusted], STORE_ENCRYPTION))

    @property
    def certificate(self) -> Path:
        """Its own certificate."""
        return self.folder / "authority.pem"

    @property
    def truststore(self) -> Path:
        """The same for Java."""
        return self.folder / "authority.p12"

    def sign(self, name: str, key_password: str = "") -> Signed:
        """Make a key and sign its certificate, good for both sides on this machine.

        :param key_password: with which the PEM file of the key is sealed.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        here = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        certificate = self._builder(name, key).add_extension(here, critical=False).sign(self._key, SHA)
        files = Signed(*(self.folder / f"{name}{ending}" for ending in (".pem", ".key", ".p12")))
        sealed: KeySerializationEncryption = NoEncryption()
        if key_password:
            sealed = BestAvailableEncryption(key_password.encode())
        files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed))
        store = pkcs12.serialize_key_and_certificates(name.encode(), key, certificate, [self._own], STORE_ENCRYPTION)
        files.store.write_bytes(store)
        return files

    def _builder(self, name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(
            issuer_name=_name("authority"),
            subject_name=_name(name),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(days=1),
            not_valid_after=now + timedelta(days=1),
        )


SHA = hashes.SHA256()
STORE_ENCRYPTION = BestAvailableEncryption(STORE_PASSWORD.encode())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
