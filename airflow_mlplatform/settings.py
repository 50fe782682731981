"""The ``[mlplatform]`` section of ``airflow.cfg`` as one frozen object."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast

from airflow.configuration import AIRFLOW_HOME, conf

from airflow_mlplatform.exceptions import ConfigurationError

__all__ = ["Settings", "settings"]

SECTION = "mlplatform"
Runtime = Literal["local", "kubernetes"]


@dataclass(frozen=True)
class Settings:
    """What the deployment, not the spec, decides.

    :param runtime: where work happens: ``local`` (this machine) or ``kubernetes`` (a pod a task).
    :param pond: URI or folder that ``pond://`` stands for.
    :param staging: URI or folder for data between the tasks of one run.
    :param state_dir: folder for processes and model servers of the local runtime.
    :param s3_conn_id: Airflow connection (type aws) for ``s3://`` where a spec names none; empty: the environment's.
    :param mlflow_conn_id: Airflow connection (type mlflow) of the tracking server and registry.
    :param serving_address: ``host:port`` on which the local runtime serves models.
    :param registry_poll_interval: seconds between two looks at the model registry.
    """

    runtime: Runtime
    pond: str
    staging: str
    state_dir: Path
    s3_conn_id: str
    mlflow_conn_id: str
    serving_address: str
    registry_poll_interval: float


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
        serving_address=conf.get(SECTION, "serving_address", fallback="127.0.0.1:8090"),
        registry_poll_interval=conf.getfloat(SECTION, "registry_poll_interval", fallback=5.0),
    )
