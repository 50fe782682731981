"""Secrets of the platform are made once, and fit together."""

from __future__ import annotations

import base64
import ssl
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from tests.unit.stack.conftest import VALUES

SPECIFICATION: list[dict[str, Any]] = yaml.safe_load(
    (VALUES / "platform" / "files" / "secrets.yaml").read_text("utf-8")
)
PLACE = {"domain": "ml.localhost", "endpoint": "http://minio:9000", "region": "eu", "postgresql": "db"}
Secrets = dict[tuple[str, str], dict[str, str]]


class Vault:
    """Secrets in memory."""

    def __init__(self, make_secrets: ModuleType) -> None:
        self._found = make_secrets.Found
        self.secrets: Secrets = {}
        self.foreign: set[tuple[str, str]] = set()

    def read(self, namespace: str, name: str) -> Any:
        values = self.secrets.get((namespace, name))
        return values and self._found(dict(values), ours=(namespace, name) not in self.foreign)

    def create(self, namespace: str, name: str, kind: str, values: dict[str, str]) -> None:
        self.secrets[namespace, name] = values

    def change(self, namespace: str, name: str, values: dict[str, str]) -> None:
        assert (namespace, name) not in self.foreign
        self.secrets[namespace, name] |= values

    def bring(self, namespace: str, name: str, **values: str) -> None:
        self.secrets[namespace, name] = values
        self.foreign.add((namespace, name))

    def copy(self) -> Secrets:
        return {key: dict(values) for key, values in self.secrets.items()}


@pytest.fixture
def vault(make_secrets: ModuleType) -> Vault:
    vault = Vault(make_secrets)
    make_secrets.Maker(vault, PLACE).make(SPECIFICATION)
    return vault


def test_all_are_made_and_a_second_time_nothing_is(make_secrets: ModuleType, vault: Vault) -> None:
    before = vault.copy()
    assert len(before) == len(SPECIFICATION)
    assert make_secrets.Maker(vault, PLACE).make(SPECIFICATION) == []
    assert vault.secrets == before


def test_random_values_differ_and_are_long(vault: Vault) -> None:
    random = [
        vault.secrets[secret["namespace"], secret["name"]][key]
        for secret in SPECIFICATION
        for key, wish in secret.get("data", {}).items()
        if "random" in wish
    ]
    assert len(set(random)) == len(random) > 5
    assert min(map(len, random)) >= 32


def test_those_that_talk_to_each_other_agree(vault: Vault) -> None:
    password = vault.secrets["databases", "airflow-db"]["password"]
    url = urlsplit(vault.secrets["airflow", "airflow-metadata"]["connection"])
    assert (unquote(url.password or ""), url.hostname, url.path) == (password, "db", "/airflow")
    assert vault.secrets["mlflow", "mlflow-db"] == vault.secrets["databases", "mlflow-db"]
    key = vault.secrets["minio", "minio-users"]["models"]
    assert vault.secrets["models", "s3"]["RCLONE_CONFIG_S3_SECRET_ACCESS_KEY"] == key
    assert vault.secrets["models", "s3"]["RCLONE_CONFIG_S3_ENDPOINT"] == PLACE["endpoint"]


def test_airflow_reads_the_connections(vault: Vault) -> None:
    from airflow.sdk import Connection

    connections = vault.secrets["airflow", "airflow-connections"]
    s3 = Connection.from_uri(connections["AIRFLOW_CONN_S3"], "s3")
    assert (s3.conn_type, s3.login, s3.password) == ("aws", "airflow", vault.secrets["minio", "minio-users"]["airflow"])
    assert s3.extra_dejson == {"endpoint_url": PLACE["endpoint"], "region_name": "eu"}
    for name, uri in connections.items():
        assert Connection.from_uri(uri, name).conn_type


def test_the_fernet_key_is_one(vault: Vault) -> None:
    assert len(base64.urlsafe_b64decode(vault.secrets["airflow", "airflow-fernet"]["fernet-key"])) == 32


def test_what_follows_from_another_follows_it_and_what_is_random_stays(make_secrets: ModuleType, vault: Vault) -> None:
    """How a password is changed, and how an upgrade brings a secret that it knows more of to its form."""
    before = vault.copy()
    vault.secrets["databases", "airflow-db"]["password"] = "another"
    del vault.secrets["minio", "minio-users"]["backups"]
    changed = set(make_secrets.Maker(vault, PLACE | {"region": "us"}).make(SPECIFICATION))

    assert changed == {
        "minio/minio-users",
        "databases/database-backup",
        "airflow/airflow-metadata",
        "airflow/airflow-connections",
        "airflow/airflow-specs",
        "airflow/mlplatform-credentials",
        "models/s3",
    }
    assert ":another@" in vault.secrets["airflow", "airflow-metadata"]["connection"]
    assert vault.secrets["minio", "minio-users"]["models"] == before["minio", "minio-users"]["models"]
    assert vault.secrets["airflow", "airflow-fernet"] == before["airflow", "airflow-fernet"]


def test_a_secret_of_yours_that_lacks_a_key_is_told(make_secrets: ModuleType) -> None:
    vault = Vault(make_secrets)
    vault.bring("databases", "airflow-db", username="airflow")
    with pytest.raises(SystemExit, match="databases/airflow-db is yours and lacks password"):
        make_secrets.Maker(vault, PLACE).make(SPECIFICATION)


def test_a_secret_of_yours_is_used_and_never_changed(make_secrets: ModuleType) -> None:
    vault = Vault(make_secrets)
    vault.bring("databases", "airflow-db", username="someone", password="p/w@")
    vault.bring("istio-ingress", "platform-tls", **{"tls.crt": "", "tls.key": "mine"})
    make_secrets.Maker(vault, PLACE).make(SPECIFICATION)
    assert vault.secrets["databases", "airflow-db"]["username"] == "someone"
    assert vault.secrets["istio-ingress", "platform-tls"] == {"tls.crt": "", "tls.key": "mine"}
    assert vault.secrets["airflow", "airflow-metadata"]["connection"] == "postgresql://airflow:p%2Fw%40@db:5432/airflow"


def test_the_certificate_is_one_that_a_client_accepts(vault: Vault, tmp_path: Path) -> None:
    certificate = vault.secrets["istio-ingress", "platform-tls"]
    files = {key: tmp_path / key for key in certificate}
    for key, path in files.items():
        path.write_text(certificate[key], "utf-8")
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=files["tls.crt"])
    server.load_cert_chain(files["tls.crt"], files["tls.key"])

    assert _shakes_hands(client, server, "airflow.ml.localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match="airflow.other.localhost"):
        _shakes_hands(client, server, "airflow.other.localhost")


def _shakes_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bool:
    """A whole handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in tuple(ends):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
                ends.remove(end)
    return True


@pytest.mark.parametrize("domain", ["ml.localhost", "elsewhere.localhost"])
def test_the_certificate_is_made_anew_when_it_no_longer_serves(
    make_secrets: ModuleType, vault: Vault, monkeypatch: pytest.MonkeyPatch, domain: str
) -> None:
    """Here because it is valid for less than the month in which it is renewed, or is for another domain."""
    before = vault.copy()["istio-ingress", "platform-tls"]
    monkeypatch.setattr(
        make_secrets, "RENEWED_BEFORE", make_secrets.VALID_FOR if domain == PLACE["domain"] else timedelta()
    )
    changed = make_secrets.Maker(vault, PLACE | {"domain": domain}).make(SPECIFICATION)
    # A connection names MLflow's address for people.
    assert set(changed) - {"airflow/airflow-connections"} == {"istio-ingress/platform-tls"}
    assert vault.secrets["istio-ingress", "platform-tls"]["tls.key"] != before["tls.key"]
