"""The ``[mlplatform]`` section of ``airflow.cfg`` as one frozen object."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast

from airflow.configuration import AIRFLOW_HOME, conf

from airflow_mlplatform.exceptions import ConfigurationError

__all__ = ["PodSettings", "Settings", "settings"]

SECTION = "mlplatform"
EXECUTOR = "kubernetes_executor"
Runtime = Literal["local", "kubernetes"]


@dataclass(frozen=True)
class PodSettings:
    """What the deployment decides about the pods of trainings and container transforms.

    :param kubernetes_conn_id: Airflow connection (type kubernetes); empty: the cluster of the KubernetesExecutor.
    :param namespace: where the pods run; that of the KubernetesExecutor if not set.
    :param template_file: pod template of the KubernetesExecutor's workers, whose security context, volumes and so on
        the pods share; empty: none.
    :param platform_image: image with this package, for what goes before and after foreign code.
    :param training_image: image of trainings that name none.
    :param service_account: service account of the pods whose spec names none; they get no token of it.
    :param credentials_secret: Kubernetes Secret whose keys become environment variables: MLflow's and S3's credentials.
    :param start_timeout: seconds that a pod may need to start.
    """

    kubernetes_conn_id: str
    namespace: str
    template_file: str
    platform_image: str
    training_image: str
    service_account: str
    credentials_secret: str
    start_timeout: float


@dataclass(frozen=True)
class Settings:
    """What the deployment, not the spec, decides.

    :param runtime: where work happens: ``local`` (this machine) or ``kubernetes`` (a pod a task).
    :param pond: URI or folder that ``pond://`` stands for.
    :param staging: URI or folder for data between the tasks of one run.
    :param state_dir: folder for processes and model servers of the local runtime.
    :param s3_conn_id: Airflow connection (type aws) for ``s3://`` where a spec names none; empty: the environment's.
    :param mlflow_conn_id: Airflow connection (type mlflow) of the tracking server and registry.
    :param prometheus_conn_id: Airflow connection (type prometheus) of what rollouts are judged by.
    :param serving_url: address of the ingress behind which Seldon's models answer; empty: within the cluster.
    :param grafana_url: dashboard of a served model, with ``{namespace}``, ``{name}``, ``{model}``, ``{version}``.
    :param serving_address: ``host:port`` on which the local runtime serves models.
    :param registry_poll_interval: seconds between two looks at the model registry.
    :param pods: how the pods that this package starts are made.
    """

    runtime: Runtime
    pond: str
    staging: str
    state_dir: Path
    s3_conn_id: str
    mlflow_conn_id: str
    prometheus_conn_id: str
    serving_url: str
    grafana_url: str
    serving_address: str
    registry_poll_interval: float
    pods: PodSettings


def _runtime() -> Runtime:
    value = conf.get(SECTION, "runtime", fallback="auto")
    if value == "auto":
        return "kubernetes" if "KubernetesExecutor" in conf.get("core", "executor", fallback="") else "local"
    if value not in ("local", "kubernetes"):
        raise ConfigurationError(
            f"[{SECTION}] runtime is {value!r}; set it to auto, local or kubernetes in airflow.cfg "
            f"or AIRFLOW__{SECTION.upper()}__RUNTIME"
        )
    return cast("Runtime", value)


def _pods() -> PodSettings:
    repository = conf.get(EXECUTOR, "worker_container_repository", fallback="")
    tag = conf.get(EXECUTOR, "worker_container_tag", fallback="")
    worker_image = f"{repository}:{tag}" if repository and tag else repository
    return PodSettings(
        kubernetes_conn_id=conf.get(SECTION, "kubernetes_conn_id", fallback=""),
        namespace=conf.get(SECTION, "namespace", fallback="") or conf.get(EXECUTOR, "namespace", fallback="default"),
        template_file=conf.get(EXECUTOR, "pod_template_file", fallback=""),
        platform_image=conf.get(SECTION, "platform_image", fallback="") or worker_image,
        training_image=conf.get(SECTION, "training_image", fallback=""),
        service_account=conf.get(SECTION, "training_service_account", fallback="default"),
        credentials_secret=conf.get(SECTION, "credentials_secret", fallback=""),
        start_timeout=conf.getfloat(SECTION, "pod_start_timeout", fallback=600.0),
    )


@cache
def settings() -> Settings:
    """Read the section once a process.

    :raises ConfigurationError: for a value that is not understood.
    """
    home = Path(conf.get(SECTION, "state_dir", fallback="") or f"{AIRFLOW_HOME}/mlplatform")
    return Settings(
        runtime=_runtime(),
        pond=conf.get(SECTION, "pond", fallback="") or str(home / "pond"),
        staging=conf.get(SECTION, "staging", fallback="") or str(home / "staging"),
        state_dir=home,
        s3_conn_id=conf.get(SECTION, "s3_conn_id", fallback=""),
        mlflow_conn_id=conf.get(SECTION, "mlflow_conn_id", fallback="mlflow_default"),
        prometheus_conn_id=conf.get(SECTION, "prometheus_conn_id", fallback="prometheus_default"),
        serving_url=conf.get(SECTION, "serving_url", fallback="").rstrip("/"),
        grafana_url=conf.get(SECTION, "grafana_url", fallback=""),
        serving_address=conf.get(SECTION, "serving_address", fallback="127.0.0.1:8090"),
        registry_poll_interval=conf.getfloat(SECTION, "registry_poll_interval", fallback=5.0),
        pods=_pods(),
    )
