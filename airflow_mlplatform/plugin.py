"""The Airflow plugin."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_mlplatform.alerts.mounted import AlertsApp
from airflow_mlplatform.links import EndpointLink, MlflowRunLink, ModelVersionLink

__all__ = ["MlplatformPlugin"]


class MlplatformPlugin(AirflowPlugin):
    """Registers the extra links, so that the web server shows them, and what hears Alertmanager."""

    name = "mlplatform"
    operator_extra_links = [MlflowRunLink(), ModelVersionLink(), EndpointLink()]  # noqa: RUF012 - Airflow's own
    fastapi_apps = [{"name": "mlplatform", "url_prefix": "/mlplatform", "app": AlertsApp()}]  # noqa: RUF012 - likewise
