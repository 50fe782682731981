"""The shipped configuration names only what Airflow knows, and the worker template gives nothing away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.configuration import conf
from airflow.providers.cncf.kubernetes.get_provider_info import get_provider_info as kubernetes_info

from airflow_mlplatform.provider_info import get_provider_info

VALUES = Path(__file__).parents[2] / "helm-values"
CONFIG: dict[str, dict[str, str]] = yaml.safe_load((VALUES / "airflow" / "config.yaml").read_text("utf-8"))["config"]
WORKER: dict[str, Any] = yaml.safe_load((VALUES / "airflow" / "worker-pod.yaml").read_text("utf-8"))
OPTIONS = [(section, option) for section, options in CONFIG.items() for option in options]


@pytest.mark.parametrize(("section", "option"), OPTIONS)
def test_every_option_exists(section: str, option: str) -> None:
    known: dict[str, Any] = dict(conf.configuration_description)
    for provider in (kubernetes_info(), get_provider_info()):
        known |= provider["config"]
    assert option in known[section]["options"]


@pytest.mark.parametrize(("section", "option"), OPTIONS)
def test_every_value_is_a_text(section: str, option: str) -> None:
    """The chart writes airflow.cfg of them: a YAML boolean would become `true`, and a list something odd."""
    assert isinstance(CONFIG[section][option], str)


def test_what_is_json_is_json() -> None:
    (bundle,) = json.loads(CONFIG["dag_processor"]["dag_bundle_config_list"])
    assert bundle["classpath"] == "airflow_mlplatform.bundle.SpecBundle"
    connect, read = json.loads(CONFIG["kubernetes_executor"]["kube_client_request_args"])["_request_timeout"]
    assert 0 < connect < read


def test_the_watch_does_not_end_when_deleted_pods_do() -> None:
    """Airflow renews a silent watch after the read timeout and sees nothing for a second; see config.yaml."""
    _, read = json.loads(CONFIG["kubernetes_executor"]["kube_client_request_args"])["_request_timeout"]
    assert WORKER["spec"]["terminationGracePeriodSeconds"] <= read / 2


def test_a_worker_may_read_specs_and_has_no_other_secret_and_no_token() -> None:
    spec = WORKER["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert not [volume for volume in spec["volumes"] if not {"configMap", "emptyDir"} & volume.keys()]
    (container,) = spec["containers"]
    # What reads the specs is no task's: docs/kubernetes.md.
    assert container["envFrom"] == [{"secretRef": {"name": "airflow-specs", "optional": True}}]
    assert {variable["name"] for variable in container["env"]} == {"AIRFLOW_HOME", "AIRFLOW_CONFIG", "HOME"}
    secret = {"sql_alchemy_conn", "fernet_key", "jwt_secret", "secret_key", "password"}
    assert not secret & {option for _, option in OPTIONS}
