"""The Airflow plugin."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_mlplatform.links import EndpointLink, MlflowRunLink, ModelVersionLink

__all__ = ["MlplatformPlugin"]


class MlplatformPlugin(AirflowPlugin):
    """Registers the extra links, so that the web server shows them for tasks of this package."""

    name = "mlplatform"
    operator_extra_links = [MlflowRunLink(), ModelVersionLink(), EndpointLink()]  # noqa: RUF012 - Airflow's own
