"""What of a training is fixed while its DAG is built; the rest holds templates."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from airflow_mlplatform.runtime.mlflow_project import Environment
from airflow_mlplatform.specs.common import Defaults

__all__ = ["TrainingPlan"]


class TrainingPlan(BaseModel):
    """How a project is called and where it runs.

    :param entry_point: entry point of the project.
    :param environment: where its packages come from.
    :param env: its environment variables: text, or ``{secret, key}``.
    :param secret: ``{secret, key}`` of the token or key for a private repository.
    :param pod: image, resources and so on, as JSON of ``Defaults``.
    :param bundle: ``{name, version, folder}`` of the spec's folder in its DAG bundle.
    :param folder: the spec's folder as the DAG processor saw it.
    :param owner: who answers for it.
    :param mlflow_conn_id: connection id; that of the ``[mlplatform]`` section if ``None``.
    :param timeout: seconds after which Kubernetes ends the pod.
    :param by_worker: a worker ends the task, for what a trigger cannot do (asset events).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry_point: str = "main"
    environment: Environment = "image"
    env: dict[str, Any] = {}
    secret: dict[str, str] | None = None
    pod: dict[str, Any] = {}
    bundle: dict[str, Any] | None = None
    folder: str | None = None
    owner: str = ""
    mlflow_conn_id: str | None = None
    timeout: float | None = None
    by_worker: bool = False

    @property
    def defaults(self) -> Defaults:
        """Image, resources and so on."""
        return Defaults.model_validate(self.pod, strict=False)
