"""The pod of one training: an init container brings the project, the user's image runs it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.runtime.mlflow_project import ProjectCall
from airflow_mlplatform.runtime.pod_manifest import (
    WORK,
    Identity,
    PodSetup,
    env_vars,
    foreign_container,
    own_container,
    pod,
)
from airflow_mlplatform.runtime.project_environment import in_image
from airflow_mlplatform.training.plan import TrainingPlan

__all__ = ["PROJECT", "TRAIN", "TrainingPod"]

PROJECT, TRAIN = "project", "train"
GIT_KEYS = {"MLPLATFORM_GIT_USERNAME": "username", "MLPLATFORM_GIT_KNOWN_HOSTS": "known_hosts"}
OURS = {
    "HOME": "/tmp",  # noqa: S108
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENV_ROOT": f"{WORK}/environments",
    "PYTHONUNBUFFERED": "1",
    # Beside the environments, so that uv can link what it has downloaded instead of copying it.
    "UV_CACHE_DIR": f"{WORK}/.cache/uv",
    # Foreign images know no user of our number, and MLflow asks for its name.
    "USER": "mlflow",
    "LOGNAME": "mlflow",
}


@dataclass(frozen=True)
class TrainingPod:
    """A project and where it runs.

    :param uri: git URL, folder beside the spec, or absolute path of a folder that the image holds.
    :param version: branch, tag or commit of a git URL.
    :param parameters: values of the entry point's parameters, as text.
    :param plan: how it is called, and where it runs.
    """

    uri: str
    version: str | None
    parameters: Mapping[str, str]
    plan: TrainingPlan

    @property
    def baked_in(self) -> bool:
        """Whether the image holds the project already."""
        return self.uri.startswith("/") and not self.version

    @property
    def fingerprint(self) -> str:
        """Equal for two trainings that do the same, as far as a spec tells: a branch may have moved."""
        parts = [self.uri, self.version, self.plan.entry_point, sorted(self.parameters.items()), self.plan.environment]
        return _hash([*parts, self.plan.defaults.image])

    @property
    def work(self) -> str:
        """Changes with anything that the pod does, its size and place too."""
        return _hash([self.fingerprint, self.plan.defaults.model_dump(mode="json"), self.plan.env, self.plan.secret])

    def manifest(
        self,
        setup: PodSetup,
        identity: Identity,
        run_id: str,
        experiment_id: str,
        *,
        image: str,
        tracking_uri: str,
    ) -> dict[str, Any]:
        """Return the pod that continues an MLflow run.

        :param image: image of the training where the spec names none.
        :param tracking_uri: address of MLflow, without credentials.
        :raises ConfigurationError: if no image is known, or a secret would show.
        """
        return pod(
            setup,
            identity,
            self.plan.defaults,
            init=() if self.baked_in else (self._project(setup),),
            main=self._train(setup, run_id, experiment_id, image, tracking_uri),
            timeout=self.plan.timeout,
        )

    def _project(self, setup: PodSetup) -> dict[str, Any]:
        request = {
            "uri": self.uri,
            "version": self.version,
            "entry_point": self.plan.entry_point,
            "environment": self.plan.environment,
            "parameters": dict(self.parameters),
            "bundle": self.plan.bundle,
            "folder": self.plan.folder,
            "target": f"{WORK}/{PROJECT}",
        }
        env = [{"name": "MLPLATFORM_PROJECT", "value": json.dumps(request)}, *self._git_secret()]
        return own_container(setup, PROJECT, "airflow_mlplatform.fetch_project", env)

    def _git_secret(self) -> list[dict[str, Any]]:
        if not self.plan.secret:
            return []
        name = self.plan.secret["secret"]
        found = [_from_secret("MLPLATFORM_GIT_SECRET", name, self.plan.secret["key"], optional=False)]
        return found + [_from_secret(variable, name, key, optional=True) for variable, key in GIT_KEYS.items()]

    def _train(self, setup: PodSetup, run_id: str, experiment_id: str, image: str, tracking_uri: str) -> dict[str, Any]:
        chosen = self.plan.defaults.image or image
        if not chosen:
            raise ConfigurationError(
                "the training has no image; name one in defaults.image (any with mlflow), or set [mlplatform] "
                "training_image for all"
            )
        place = self.uri if self.baked_in else f"{WORK}/{PROJECT}"
        call = ProjectCall(place, None, self.plan.entry_point, self.parameters, self.plan.environment, "")
        ours = OURS | ({"MLFLOW_TRACKING_URI": tracking_uri} if tracking_uri else {})
        container = foreign_container(
            TRAIN,
            chosen,
            in_image(call.command(run_id, experiment_id, ("mlflow",)), self.plan.environment),
            self.plan.defaults.resources,
            env_vars({**ours, **self.plan.env}, "env"),
            setup.credentials,
        )
        return container | {"workingDir": WORK}


def _from_secret(variable: str, secret: str, key: str, *, optional: bool) -> dict[str, Any]:
    reference = {"name": secret, "key": key} | ({"optional": True} if optional else {})
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def _hash(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
