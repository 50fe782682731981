"""Secrets of the platform are made once, and fit together."""

from __future__ import annotations

import base64
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from tests.unit.stack.conftest import VALUES

SPECIFICATION: list[dict[str, Any]] = yaml.safe_load(
    (VALUES / "platform" / "files" / "secrets.yaml").read_text("utf-8")
)
PLACE = {"endpoint": "http://minio:9000", "region": "eu", "postgresql": "db"}


class Vault:
    """Secrets in memory."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], dict[str, str]] = {}

    def read(self, namespace: str, name: str) -> dict[str, str] | None:
        return self.secrets.get((namespace, name))

    def write(self, namespace: str, name: str, kind: str, values: dict[str, str]) -> None:
        self.secrets[namespace, name] = values


@pytest.fixture
def vault(make_secrets: ModuleType) -> Vault:
    vault = Vault()
    make_secrets.Maker(vault, PLACE).make(SPECIFICATION)
    return vault


def test_all_are_made_and_a_second_time_nothing_is(make_secrets: ModuleType, vault: Vault) -> None:
    before = {key: dict(values) for key, values in vault.secrets.items()}
    assert len(before) == len(SPECIFICATION)
    assert make_secrets.Maker(vault, PLACE).make(SPECIFICATION) == []
    assert vault.secrets == before


def test_random_values_differ_and_are_long(vault: Vault) -> None:
    random = [
        vault.secrets[secret["namespace"], secret["name"]][key]
        for secret in SPECIFICATION
        for key, wish in secret["data"].items()
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


def test_a_secret_that_lacks_a_key_is_told(make_secrets: ModuleType, vault: Vault) -> None:
    del vault.secrets["mlflow", "mlflow-admin"]["password"]
    with pytest.raises(SystemExit, match="mlflow/mlflow-admin is there without password"):
        make_secrets.Maker(vault, PLACE).make(SPECIFICATION)


def test_a_secret_of_yours_is_used(make_secrets: ModuleType) -> None:
    vault = Vault()
    vault.secrets["databases", "airflow-db"] = {"username": "airflow", "password": "p/w@"}
    make_secrets.Maker(vault, PLACE).make(SPECIFICATION)
    assert vault.secrets["airflow", "airflow-metadata"]["connection"] == "postgresql://airflow:p%2Fw%40@db:5432/airflow"
