"""What Airflow's provider manager reads: connection types, extra links, the ``[mlplatform]`` section."""

from __future__ import annotations

from typing import Any

from airflow_mlplatform import __version__

__all__ = ["get_provider_info"]


def _option(description: str, default: str, example: str | None = None, kind: str = "string") -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": example,
        "default": default,
    }


OPTIONS = {
    "runtime": _option(
        "Where work happens: ``local`` (this machine), ``kubernetes`` (a pod a task), or ``auto`` "
        "(kubernetes where the KubernetesExecutor is configured).",
        "auto",
    ),
    "state_dir": _option(
        "Folder for processes and model servers of the local runtime; ``$AIRFLOW_HOME/mlplatform`` if empty.", ""
    ),
    "pond": _option(
        "Folder or URI that ``pond://`` stands for; ``pond`` in the state folder if empty.", "", "s3://pond"
    ),
    "staging": _option(
        "Folder or URI for data between the tasks of one run; ``staging`` in the state folder if empty.",
        "",
        "s3://staging",
    ),
    "s3_conn_id": _option(
        "Airflow connection (type aws) for ``s3://`` where a spec names none; if empty, the environment's "
        "own credentials.",
        "",
        "aws_default",
    ),
    "mlflow_conn_id": _option("Airflow connection (type mlflow) of the tracking server.", "mlflow_default"),
    "prometheus_conn_id": _option(
        "Airflow connection (type prometheus) that rollouts are judged by.", "prometheus_default"
    ),
    "serving_url": _option(
        "Address of the ingress behind which Seldon's models answer; that within the cluster if empty.",
        "",
        "https://models.example.org",
    ),
    "grafana_url": _option(
        "Dashboard of a served model; {namespace}, {name}, {model} and {version} stand for what is served.",
        "",
        "https://grafana.example.org/d/models?var-deployment={name}",
    ),
    "serving_address": _option("host:port on which the local runtime serves models.", "127.0.0.1:8090"),
    "registry_poll_interval": _option("Seconds between two looks at the model registry.", "5", kind="float"),
    "kubernetes_conn_id": _option(
        "Airflow connection (type kubernetes) with which pods are started; the cluster of the KubernetesExecutor if "
        "empty.",
        "",
    ),
    "namespace": _option(
        "Namespace of the pods of trainings and container transforms; that of the KubernetesExecutor if empty.", ""
    ),
    "platform_image": _option(
        "Image with this package, for what goes before and after foreign code in a pod; the executor's worker image "
        "if empty.",
        "",
    ),
    "training_image": _option("Image of trainings whose spec names none.", "", "mlplatform-trainer:0.1.0"),
    "training_service_account": _option(
        "Service account of training and container pods whose spec names none; they get no token of it.", "default"
    ),
    "credentials_secret": _option(
        "Kubernetes Secret whose keys become environment variables of training pods and of what moves their data: "
        "``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``, ``MLFLOW_TRACKING_USERNAME`` …",
        "",
        "mlplatform-credentials",
    ),
    "pod_start_timeout": _option(
        "Seconds that a pod may wait for a node and its images before the task fails.", "600", kind="float"
    ),
    "alerts_token": {
        **_option(
            "Token (bearer) that Alertmanager shows; no alert is heard without one. Several, with spaces between, "
            "while it is exchanged.",
            "",
        ),
        "sensitive": True,
    },
    "specs_folder": _option("Folder in which ``dags/mlplatform.py`` looks for specs; the dags folder if empty.", ""),
}


def _field(label: str, description: str, secret: bool = False) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": ["string", "null"]}
    return {"label": label, "description": description, "schema": schema | ({"format": "password"} if secret else {})}


KAFKA_CONNECT_FORM = {
    "hidden-fields": [],
    "relabeling": {"schema": "Scheme (http or https)", "host": "Workers (commas between them)"},
    "placeholders": {"host": "connect-1.example.org,connect-2.example.org", "port": "8083", "schema": "http"},
}
KAFKA_CONNECT_FIELDS = {
    "token": _field("Bearer token", "Sent instead of login and password.", secret=True),
    "path": _field("Path prefix", "Where Kafka Connect lies behind an ingress, like /connect."),
    "verify": _field("CA bundle", "Path of a CA bundle (PEM), or false to trust any certificate."),
    "certificate": _field("Client certificate", "Path of our own certificate (PEM), for mutual TLS."),
    "key": _field("Client key", "Path of its private key, if that is a file of its own."),
    "key_password": _field("Password of the client key", "If the key is encrypted.", secret=True),
    "ui_url": _field("UI", "Where people look at a connector; {name} stands for its name."),
}

PROMETHEUS_FORM = {
    "hidden-fields": [],
    "relabeling": {"schema": "Scheme (http or https)", "host": "Address of Prometheus"},
    "placeholders": {"host": "prometheus.example.org or http://prometheus:9090", "port": "9090", "schema": "http"},
}
PROMETHEUS_FIELDS = {
    "token": _field("Bearer token", "Sent instead of login and password.", secret=True),
    "path": _field("Path prefix", "Where Prometheus lies behind an ingress, like /prometheus."),
    "verify": _field("CA bundle", "Path of a CA bundle (PEM), or false to trust any certificate."),
    "headers": {
        "label": "Headers",
        "description": 'Further headers of each request: {"X-Scope-OrgID": "team"}.',
        "schema": {"type": ["object", "null"]},
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, as the entry point ``apache_airflow_provider`` promises."""
    return {
        "package-name": "airflow-mlplatform",
        "name": "ML platform",
        "description": "YAML specs become ETL, training and deployment DAGs; operators for MLflow and model serving.",
        "versions": [__version__],
        "connection-types": [
            {
                "connection-type": "mlflow",
                "hook-class-name": "airflow_mlplatform.hooks.mlflow.MlflowHook",
                "hook-name": "MLflow",
            },
            {
                "connection-type": "kafka_connect",
                "hook-class-name": "airflow_mlplatform.hooks.kafka_connect.KafkaConnectHook",
                "hook-name": "Kafka Connect",
                "ui-field-behaviour": KAFKA_CONNECT_FORM,
                "conn-fields": KAFKA_CONNECT_FIELDS,
            },
            {
                "connection-type": "prometheus",
                "hook-class-name": "airflow_mlplatform.hooks.prometheus.PrometheusHook",
                "hook-name": "Prometheus",
                "ui-field-behaviour": PROMETHEUS_FORM,
                "conn-fields": PROMETHEUS_FIELDS,
            },
        ],
        "extra-links": [
            "airflow_mlplatform.links.MlflowRunLink",
            "airflow_mlplatform.links.ModelVersionLink",
            "airflow_mlplatform.links.EndpointLink",
            "airflow_mlplatform.links.GrafanaLink",
            "airflow_mlplatform.links.KafkaConnectorLink",
        ],
        "config": {"mlplatform": {"description": "airflow-mlplatform: specs, runtime, data pond.", "options": OPTIONS}},
    }
