"""What Airflow's own chart was found to need of its values by running it; no schema tells."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlplatform.executor import MlplatformKubernetesExecutor
from tests.services.stack.rendering import PROFILES, values

EXECUTOR = f"{MlplatformKubernetesExecutor.__module__}.{MlplatformKubernetesExecutor.__name__}"


@pytest.fixture(params=PROFILES)
def airflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    return values("airflow", request.param)


def test_the_chart_and_airflow_speak_of_one_executor(airflow: dict[str, Any]) -> None:
    """The chart decides by its own key whether there are a pod template and a triggerer that may use it."""
    assert (airflow["executor"], airflow["config"]["core"]["executor"]) == (EXECUTOR, EXECUTOR)


@pytest.mark.parametrize("part", ["", "statsd"])
def test_pods_are_what_a_restricted_namespace_admits(airflow: dict[str, Any], part: str) -> None:
    pod = (airflow[part] if part else airflow)["securityContexts"]["pod"]
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["runAsUser"] > 0


def test_the_triggerer_has_the_template_that_airflow_reads(airflow: dict[str, Any]) -> None:
    (mount,) = airflow["triggerer"]["extraVolumeMounts"]
    assert mount["mountPath"] == airflow["config"]["kubernetes_executor"]["pod_template_file"]
    assert (mount["name"], mount["subPath"]) == ("config", "pod_template_file.yaml")


def test_the_log_of_a_waiting_task_is_read_by_address(airflow: dict[str, Any]) -> None:
    assert {"name": "AIRFLOW__CORE__HOSTNAME_CALLABLE", "value": "airflow.utils.net.get_host_ip_address"} in airflow[
        "triggerer"
    ]["env"]


def test_connections_are_given_to_the_processes_that_answer_for_them(airflow: dict[str, Any]) -> None:
    assert [name in airflow["extraEnvFrom"] for name in ("airflow-connections", "airflow-specs")] == [True, True]


@pytest.mark.parametrize("part", ["redis", "postgresql"])
def test_what_the_chart_brings_and_the_stack_has_elsewhere_is_off(airflow: dict[str, Any], part: str) -> None:
    assert airflow[part]["enabled"] is False


def test_there_is_no_pgbouncer(airflow: dict[str, Any]) -> None:
    """The chart's points at a database of its own; by default there is none."""
    assert "pgbouncer" not in airflow


@pytest.mark.parametrize("job", ["migrateDatabaseJob", "createUserJob"])
def test_jobs_of_the_installation_run_with_it_and_not_before(airflow: dict[str, Any], job: str) -> None:
    assert airflow[job]["useHelmHooks"] is False
