"""The pod of a container transform: ours brings the data, the user's image works on it, ours stages the result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from airflow_mlplatform.runtime.pod_manifest import (
    WORK,
    Identity,
    PodSetup,
    env_vars,
    foreign_container,
    own_container,
    pod,
)
from airflow_mlplatform.specs.common import Defaults
from airflow_mlplatform.specs.etl import ContainerTransform

__all__ = ["OUTPUT", "Staged", "TransformPod"]

INPUT, TRANSFORM, OUTPUT = "input", "transform", "output"
PATHS = {"INPUT": f"{WORK}/input.parquet", "OUTPUT": f"{WORK}/output.parquet"}
ORDER = "MLPLATFORM_STAGED"


@dataclass(frozen=True)
class Staged:
    """Data in the staging area.

    :param task: the task whose data it is.
    :param listing: id of the task that listed the files, if all of several parts are meant.
    :param part: the part, if one is meant.
    """

    task: str
    listing: str | None = None
    part: dict[str, Any] | None = None


@dataclass(frozen=True)
class TransformPod:
    """A container, what it reads and what it writes.

    :param transform: the container.
    :param defaults: resources and where it runs; of its environment variables those that are no Airflow connections.
    :param staging: folder or URI of all staging.
    :param source: what it reads.
    :param target: what it writes.
    :param attempt: the try that it works for. No other goes on with its pod: the data may have been staged anew since.
    :param timeout: seconds after which Kubernetes ends the pod.
    """

    transform: ContainerTransform
    defaults: Defaults
    staging: str
    source: Staged
    target: Staged
    attempt: str = ""
    timeout: float | None = None

    @property
    def work(self) -> str:
        """Changes with anything that the pod does."""
        parts = [
            self.transform.model_dump(mode="json"), self.defaults.model_dump(mode="json"), self.staging,
            asdict(self.source), asdict(self.target), self.attempt,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def manifest(self, setup: PodSetup, identity: Identity) -> dict[str, Any]:
        """Return the pod. The user's container has no credentials but those that its ``env`` names.

        :raises ConfigurationError: if no image with this package is known, or a secret would show.
        """
        return pod(
            setup,
            identity,
            self.defaults,
            init=(self._own(setup, identity, INPUT, self.source), self._foreign()),
            main=self._own(setup, identity, OUTPUT, self.target),
            timeout=self.timeout,
        )

    def _own(self, setup: PodSetup, identity: Identity, name: str, staged: Staged) -> dict[str, Any]:
        order = {
            "staging": self.staging, "dag_id": identity.dag_id, "run_id": identity.run_id, "path": PATHS[name.upper()],
            **asdict(staged),
        }  # fmt: skip
        env = [{"name": ORDER, "value": json.dumps(order)}]
        return own_container(setup, name, f"airflow_mlplatform.steps.staged_{name}", env, credentials=True)

    def _foreign(self) -> dict[str, Any]:
        shared = {name: value for name, value in self.defaults.env.items() if not hasattr(value, "connection")}
        return foreign_container(
            TRANSFORM,
            self.transform.image,
            self.transform.command,
            self.defaults.resources,
            env_vars({"HOME": "/tmp", **shared, **self.transform.env, **PATHS}, "container.env"),  # noqa: S108
        )
