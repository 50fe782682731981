"""Turns the YAML specs of this folder into airflow DAGs: the only Python file that a user needs.

Prefer the spec bundle (docs/discovery.md), which shows each broken spec as an import error of its own; this file is for
deployments that cannot choose their DAG bundles.
"""

from pathlib import Path

from airflow.configuration import conf
from airflow.sdk import get_parsing_context

from airflow_mlplatform.factory.loader import load_dags

folder = conf.get("mlplatform", "specs_folder", fallback="") or Path(__file__).parent
globals().update(load_dags(folder, only=get_parsing_context().dag_id))
