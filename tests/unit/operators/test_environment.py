"""The environment of a spec: named secrets, resolved when the task runs, gone when it ends."""

from __future__ import annotations

import json
import os

import pytest

from airflow_mlplatform.exceptions import ConfigurationError, UnsupportedHere
from airflow_mlplatform.operators.environment import kept_env, resolve_env, variables
from airflow_mlplatform.specs.common import ConnectionRef, SecretRef


@pytest.fixture(autouse=True)
def shop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "generic", "password": "s3cret"}))
    monkeypatch.setenv("AIRFLOW_CONN_EMPTY", json.dumps({"conn_type": "generic"}))


def test_what_is_kept_names_secrets_and_holds_none() -> None:
    kept = kept_env({"LEVEL": "info", "PASSWORD": ConnectionRef(connection="shop")})
    assert kept == {"LEVEL": "info", "PASSWORD": {"connection": "shop"}}
    assert resolve_env(kept) == {"LEVEL": "info", "PASSWORD": "s3cret"}


def test_a_kubernetes_secret_is_refused_on_this_machine() -> None:
    with pytest.raises(UnsupportedHere, match="env.TOKEN comes from the Kubernetes Secret 'shop'"):
        kept_env({"TOKEN": SecretRef(secret="shop", key="token")})


def test_a_connection_without_a_password_is_told() -> None:
    with pytest.raises(ConfigurationError, match="the connection 'empty' has no password; set one"):
        resolve_env({"X": {"connection": "empty"}})


def test_variables_are_there_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPLATFORM_TEST_A", "former")
    with variables({"MLPLATFORM_TEST_A": "a", "MLPLATFORM_TEST_B": "b"}):
        assert (os.environ["MLPLATFORM_TEST_A"], os.environ["MLPLATFORM_TEST_B"]) == ("a", "b")
    assert os.environ["MLPLATFORM_TEST_A"] == "former"
    assert "MLPLATFORM_TEST_B" not in os.environ
