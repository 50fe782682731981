"""The Deployment of a streaming application: an init container brings its code, the user's image runs it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.runtime.pod_manifest import (
    WORK,
    Identity,
    PodSetup,
    env_vars,
    foreign_container,
    own_container,
    pod,
    pod_spec,
)
from airflow_mlplatform.specs.common import ConnectionRef, Defaults, SecretRef
from airflow_mlplatform.specs.streaming import App, Probes

__all__ = ["CODE", "MANAGED_BY", "RUN", "VERSION", "AppDeployment", "deployment_name"]

Manifest = dict[str, Any]

CODE, RUN = "code", "app"
"""Names of the containers."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "airflow-mlplatform"}
VERSION = "mlplatform.airflow/version"
"""Label that tells the pods of one version from those of another."""
NAME = "app.kubernetes.io/name"
COMMIT = "mlplatform.airflow/commit"
TARGET = f"{WORK}/project"
GIT_KEYS = {"MLPLATFORM_GIT_USERNAME": "username", "MLPLATFORM_GIT_KNOWN_HOSTS": "known_hosts"}
OURS = {"HOME": "/tmp", "PYTHONUNBUFFERED": "1", "USER": "app", "LOGNAME": "app"}  # noqa: S108
# The names of its pods end with 16 characters more, and all should fit a label.
LONGEST_NAME = 47


def deployment_name(name: str) -> str:
    """Return a name for Kubernetes, the same for the same name and for no other.

    :param name: name of a pipeline: letters, digits, ``_``, ``.`` and ``-``.
    """
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if readable == name and len(name) <= LONGEST_NAME and not name[0].isdigit():
        return name
    return f"app-{readable[: LONGEST_NAME - 13].strip('-')}-{_hash(name)[:8]}".replace("--", "-")


@dataclass(frozen=True)
class AppDeployment:
    """An application and where it runs.

    :param name: name of the Deployment.
    :param app: what runs.
    :param defaults: service account, node selector, tolerations and labels; image, resources and environment where
        the application names none.
    :param commit: the commit that ``app.git.ref`` means now; empty if the image holds the code.
    :param paused: without any pod.
    """

    name: str
    app: App
    defaults: Defaults
    commit: str = ""
    paused: bool = False

    @property
    def replicas(self) -> int:
        """How many pods there are to be."""
        return 0 if self.paused else self.app.replicas

    @property
    def selector(self) -> dict[str, str]:
        """Labels of its pods, of whatever version."""
        return {NAME: self.name, **MANAGED_BY}

    def at(self, commit: str) -> AppDeployment:
        """Return the same with the code of a commit."""
        return replace(self, commit=commit)

    def manifest(self, setup: PodSetup) -> Manifest:
        """Return the Deployment.

        :raises ConfigurationError: if no image is known, or a secret would show.
        """
        template = self._template(setup)
        template["metadata"]["labels"][VERSION] = _hash(template)[:12]
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, "namespace": setup.namespace, "labels": self.selector},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": self.selector},
                "minReadySeconds": int(self.app.rollout.settle.total_seconds()),
                "progressDeadlineSeconds": int(self.app.rollout.timeout.total_seconds()),
                "revisionHistoryLimit": 2,
                # The former version goes on until pods of the new one are well.
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
                "template": template,
            },
        }

    def fetch_pod(self, setup: PodSetup, identity: Identity) -> Manifest:
        """Return the pod that finds out which commit is meant now, and that its code can be fetched."""
        ref = self.app.git.ref if self.app.git else None
        return pod(setup, identity, self.defaults, main=self._code(setup, ref))

    @property
    def fetch_work(self) -> str:
        """Changes with what :meth:`fetch_pod` fetches."""
        return _hash([self.app.git and self.app.git.model_dump(mode="json"), self.defaults.model_dump(mode="json")])

    def _template(self, setup: PodSetup) -> Manifest:
        init = [self._code(setup, self.commit)] if self.app.git else []
        spec = pod_spec(setup, self.defaults, init=init, main=self._run())
        spec["terminationGracePeriodSeconds"] = int(self.app.grace.total_seconds())
        return {
            "metadata": {
                "labels": {**self.defaults.labels, **self.selector},
                "annotations": {COMMIT: self.commit} if self.commit else {},
            },
            "spec": spec,
        }

    def _code(self, setup: PodSetup, ref: str | None) -> Manifest:
        git = self.app.git
        assert git is not None
        request = {"uri": git.url, "version": ref, "entry_point": None, "target": TARGET}
        env = [{"name": "MLPLATFORM_PROJECT", "value": json.dumps(request)}]
        if git.secret:
            env.append(_from_secret("MLPLATFORM_GIT_SECRET", git.secret, optional=False))
            others = [(name, SecretRef(secret=git.secret.secret, key=key)) for name, key in GIT_KEYS.items()]
            env += [_from_secret(name, reference, optional=True) for name, reference in others]
        return own_container(setup, CODE, "airflow_mlplatform.fetch_project", env)

    def _run(self) -> Manifest:
        image = self.app.image or self.defaults.image
        if not image:
            raise ConfigurationError(f"the app {self.name} has no image; name one in app.image or defaults.image")
        shared = {name: value for name, value in self.defaults.env.items() if not isinstance(value, ConnectionRef)}
        env = env_vars({**OURS, **shared, **self.app.env}, "app.env")
        resources = self.app.resources or self.defaults.resources
        container = foreign_container(RUN, image, self.app.entrypoint, resources, env)
        if self.app.git:
            container["workingDir"] = TARGET
        return container | (_probes(self.app.probes) if self.app.probes else {})


def _probes(probes: Probes) -> Manifest:
    found: Manifest = {"ports": [{"name": "http", "containerPort": probes.port}]}
    if probes.ready:
        found["readinessProbe"] = _probe(probes.ready, period=5, failures=3)
    if probes.live:
        found["livenessProbe"] = _probe(probes.live, period=10, failures=6)
        # A slow start is no reason to be killed.
        found["startupProbe"] = _probe(probes.live, period=2, failures=150)
    return found


def _probe(path: str, period: int, failures: int) -> Manifest:
    ask = {"path": path, "port": "http"}
    return {"httpGet": ask, "periodSeconds": period, "failureThreshold": failures, "timeoutSeconds": 5}


def _from_secret(variable: str, reference: SecretRef, *, optional: bool) -> Manifest:
    key = {"name": reference.secret, "key": reference.key} | ({"optional": True} if optional else {})
    return {"name": variable, "valueFrom": {"secretKeyRef": key}}


def _hash(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
