"""One small class per external UI; each shows the URL that its task put into XCom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

__all__ = ["EndpointLink", "GrafanaLink", "KafkaConnectorLink", "MlflowRunLink", "ModelVersionLink"]


class UrlFromXCom(BaseOperatorLink):
    """A link whose URL is the XCom of the same key; empty until the task has recorded it."""

    name = ""
    key = ""

    @property
    def xcom_key(self) -> str:
        """XCom key under which the task records the URL."""
        return self.key

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the URL, or an empty text while there is none."""
        return XCom.get_value(key=self.key, ti_key=ti_key) or ""


class MlflowRunLink(UrlFromXCom):
    """The MLflow run of this task."""

    name = "MLflow run"
    key = "mlflow_run_url"


class ModelVersionLink(UrlFromXCom):
    """The model version that this task judged, registered or promoted."""

    name = "Model version"
    key = "model_version_url"


class EndpointLink(UrlFromXCom):
    """The address at which the model answers."""

    name = "Endpoint"
    key = "endpoint_url"


class GrafanaLink(UrlFromXCom):
    """The dashboard of what is served."""

    name = "Grafana"
    key = "grafana_url"


class KafkaConnectorLink(UrlFromXCom):
    """The connector of this task."""

    name = "Connector"
    key = "kafka_connector_url"
