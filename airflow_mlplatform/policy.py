"""Airflow's policy hook: the Code tab of a DAG that comes from a spec shows the spec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.policies import hookimpl

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["SPEC_PATH_ATTRIBUTE", "dag_policy"]

SPEC_PATH_ATTRIBUTE = "mlplatform_spec_path"


@hookimpl
def dag_policy(dag: DAG) -> None:
    """Point ``fileloc`` at the YAML; Airflow overwrites it while it imports the stub, and asks policies afterwards."""
    path = getattr(dag, SPEC_PATH_ATTRIBUTE, None)
    if path is not None:
        dag.fileloc = path
