"""The package as Airflow and its users meet it: provider, plugin, settings, public names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

import airflow_mlplatform
from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.provider_info import OPTIONS, get_provider_info
from airflow_mlplatform.settings import settings


def test_importing_the_package_imports_no_airflow() -> None:
    code = "import airflow_mlplatform, sys; sys.exit('airflow' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", airflow_mlplatform.PUBLIC)
def test_every_public_name_is_there(name: str) -> None:
    found = getattr(airflow_mlplatform, name)
    assert name == "MACROS" or found.__name__ == name


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(AttributeError, match="EtlOperator"):
        _ = airflow_mlplatform.KafkaOperator


def test_airflow_knows_the_provider() -> None:
    provider = ProvidersManager().providers["airflow-mlplatform"]
    assert provider.version == airflow_mlplatform.__version__
    assert ProvidersManagerTaskRuntime().hooks["mlflow"].hook_name == "MLflow"


def test_every_link_of_the_provider_exists() -> None:
    from importlib import import_module

    for path in get_provider_info()["extra-links"]:
        module, _, name = path.rpartition(".")
        assert getattr(import_module(module), name).name


def test_every_setting_has_a_documented_default() -> None:
    found = settings()
    assert (found.runtime, found.mlflow_conn_id, found.registry_poll_interval) == ("local", "mlflow_default", 5.0)
    assert Path(found.pond) == found.state_dir / "pond"
    assert set(OPTIONS) >= {"runtime", "pond", "staging", "state_dir"}


@pytest.mark.parametrize(
    ("executor", "runtime"),
    [
        ("LocalExecutor", "local"),
        ("KubernetesExecutor", "kubernetes"),
        ("LocalExecutor,KubernetesExecutor", "kubernetes"),
    ],
)
def test_the_runtime_follows_the_executor(executor: str, runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    assert settings.__wrapped__().runtime == runtime


def test_a_runtime_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MLPLATFORM__RUNTIME", "docker")
    with pytest.raises(ConfigurationError, match="set it to auto, local or kubernetes"):
        settings.__wrapped__()
