"""The pods that this package starts, as plain manifests: around one foreign container, with no right to anything.

All share what the executor's workers have by their pod template (security context, volumes, tolerations, pull secrets).
Containers of ours run with the template's environment; a foreign container knows nothing of Airflow.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.common import Defaults, EnvValue, Resources, SecretRef

__all__ = [
    "WORK",
    "Identity",
    "PodSetup",
    "env_vars",
    "foreign_container",
    "own_container",
    "pod",
    "pod_spec",
    "quantities",
]

Manifest = dict[str, Any]

WORK = "/mlplatform"
"""Folder that the containers of a pod share."""

PREFIX = "mlplatform.airflow"
USER = 50000
OWN_RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
SHARED_WITH_WORKERS = (
    "affinity", "dnsConfig", "dnsPolicy", "hostAliases", "imagePullSecrets", "nodeSelector", "priorityClassName",
    "runtimeClassName", "schedulerName", "securityContext", "terminationGracePeriodSeconds", "tolerations",
    "topologySpreadConstraints", "volumes",
)  # fmt: skip
POD_SECURITY: Manifest = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": 0,
    "fsGroup": 0,
    "seccompProfile": {"type": "RuntimeDefault"},
}
SECURITY: Manifest = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
VOLUMES = ("mlplatform-work", "mlplatform-own-tmp", "mlplatform-tmp")


@dataclass(frozen=True)
class PodSetup:
    """What all pods of a deployment have in common.

    :param namespace: where they run.
    :param image: image with this package.
    :param service_account: whose they are, unless a spec says otherwise.
    :param credentials_secret: Secret whose keys become environment variables; empty: none.
    :param template: the pod template of the executor's workers, or nothing.
    """

    namespace: str
    image: str
    service_account: str = "default"
    credentials_secret: str = ""
    template: Mapping[str, Any] = field(default_factory=dict)

    @property
    def worker(self) -> Mapping[str, Any]:
        """The template's container ``base``."""
        containers = (self.template.get("spec") or {}).get("containers") or [{}]
        return next((found for found in containers if found.get("name") == "base"), containers[0])

    @property
    def own_image(self) -> str:
        """Image of containers of ours.

        :raises ConfigurationError: if none is set.
        """
        image = self.image or self.worker.get("image") or ""
        if not image or image == "dummy_image":
            raise ConfigurationError(
                "no image with this package is known, which fetches projects and moves data; set [mlplatform] "
                "platform_image (or the executor's worker_container_repository and worker_container_tag)"
            )
        return str(image)

    @property
    def credentials(self) -> list[Manifest]:
        """``envFrom`` of a container that may ask MLflow and S3."""
        return [{"secretRef": {"name": self.credentials_secret}}] if self.credentials_secret else []


@dataclass(frozen=True)
class Identity:
    """Whose pod it is.

    :param key: the same for every try of one task, and for nothing else.
    :param work: changes with what the pod does.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    key: str
    work: str

    @property
    def name(self) -> str:
        """The pod's name: one task has one pod at a time, however many tries and triggerers there are."""
        readable = re.sub(r"[^a-z0-9]+", "-", f"{self.dag_id}-{self.task_id}".lower()).strip("-")
        return f"{readable[:46].rstrip('-') or 'task'}-{self.key[:12]}"

    @property
    def labels(self) -> dict[str, str]:
        """Labels to select by; what does not fit a label is shortened and made unique."""
        found = {"dag_id": self.dag_id, "task_id": self.task_id, "run_id": self.run_id}
        texts = {name: _label(value) for name, value in found.items()}
        mapped = {"map_index": str(self.map_index)} if self.map_index >= 0 else {}
        return {"app.kubernetes.io/managed-by": "airflow-mlplatform", **texts, **mapped}

    @property
    def annotations(self) -> dict[str, str]:
        """The same in full, with what tells one try and one work from another."""
        found = {"dag_id": self.dag_id, "task_id": self.task_id, "run_id": self.run_id, "work": self.work}
        numbers = {"map_index": str(self.map_index), "try_number": str(self.try_number)}
        return {f"{PREFIX}/{name}": value for name, value in (found | numbers).items()}

    def made_by(self, annotations: Mapping[str, str]) -> bool:
        """Whether a pod with these annotations was made by this very try."""
        return annotations.get(f"{PREFIX}/try_number") == str(self.try_number)

    def outdated_by(self, annotations: Mapping[str, str]) -> bool:
        """Whether a pod with these annotations was made by a later try."""
        made = annotations.get(f"{PREFIX}/try_number", "")
        return made.isdigit() and int(made) > self.try_number

    def same_work(self, annotations: Mapping[str, str]) -> bool:
        """Whether a pod with these annotations does what this one would do."""
        return annotations.get(f"{PREFIX}/work") == self.work


def pod(
    setup: PodSetup,
    identity: Identity,
    defaults: Defaults,
    *,
    init: Sequence[Manifest] = (),
    main: Manifest,
    timeout: float | None = None,
) -> Manifest:
    """Return a pod that runs the ``init`` containers one after the other, then ``main``, once.

    :param defaults: service account, node selector, tolerations and labels.
    :param timeout: seconds after which Kubernetes ends it by itself, should nobody be there to do so.
    """
    spec = pod_spec(setup, defaults, init=init, main=main) | {"restartPolicy": "Never"}
    if timeout:
        spec["activeDeadlineSeconds"] = max(1, int(timeout))
    metadata = {
        "name": identity.name,
        "namespace": setup.namespace,
        "labels": {**defaults.labels, **identity.labels},
        "annotations": identity.annotations,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def pod_spec(setup: PodSetup, defaults: Defaults, *, init: Sequence[Manifest] = (), main: Manifest) -> Manifest:
    """Return the spec of a pod that runs the ``init`` containers one after the other, then ``main``.

    :param defaults: service account, node selector and tolerations.
    """
    shared = {key: value for key, value in (setup.template.get("spec") or {}).items() if key in SHARED_WITH_WORKERS}
    return shared | {
        "serviceAccountName": defaults.service_account or setup.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": shared.get("securityContext") or POD_SECURITY,
        "volumes": [*shared.get("volumes", ()), *({"name": name, "emptyDir": {}} for name in VOLUMES)],
        "nodeSelector": {**shared.get("nodeSelector", {}), **defaults.node_selector},
        "tolerations": [
            *shared.get("tolerations", ()),
            *(one.model_dump(exclude_none=True) for one in defaults.tolerations),
        ],
        "initContainers": list(init),
        "containers": [main],
    }


def own_container(
    setup: PodSetup, name: str, module: str, env: Sequence[Manifest] = (), *, credentials: bool = False
) -> Manifest:
    """Return a container that runs a module of this package, with the environment of a worker.

    :param credentials: whether it may ask MLflow and S3.
    """
    worker = setup.worker
    mounts = [mount for mount in worker.get("volumeMounts", ()) if mount["mountPath"] != "/tmp"]  # noqa: S108
    return {
        "name": name,
        "image": setup.own_image,
        "imagePullPolicy": worker.get("imagePullPolicy", "IfNotPresent"),
        "command": ["python", "-m", module],
        "env": _last_of_each([*worker.get("env", ()), {"name": "HOME", "value": "/tmp"}, *env]),  # noqa: S108
        "envFrom": [*worker.get("envFrom", ()), *(setup.credentials if credentials else ())],
        "resources": worker.get("resources") or OWN_RESOURCES,
        "volumeMounts": [*mounts, *_mounts("mlplatform-own-tmp")],
        "securityContext": SECURITY | {"readOnlyRootFilesystem": True},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def foreign_container(
    name: str,
    image: str,
    command: Sequence[str],
    resources: Resources,
    env: Sequence[Manifest] = (),
    env_from: Sequence[Manifest] = (),
) -> Manifest:
    """Return a container of somebody else's image; its root file system and the folder it starts in are the image's."""
    found: Manifest = {
        "name": name,
        "image": image,
        "env": list(env),
        "envFrom": list(env_from),
        "resources": quantities(resources),
        "volumeMounts": _mounts("mlplatform-tmp"),
        "securityContext": SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return found | ({"command": list(command)} if command else {})


def env_vars(values: Mapping[str, EnvValue | Mapping[str, str]], where: str) -> list[Manifest]:
    """Return environment variables; those that lie in a Kubernetes Secret are named, not read.

    :param where: the spec's key, for the message.
    :raises ConfigurationError: for the password of an Airflow connection, which anybody who sees the pod could read.
    """
    return [_env(name, value, where) for name, value in values.items()]


def _last_of_each(env: Sequence[Manifest]) -> list[Manifest]:
    """Drop variables that a later one replaces: server-side apply takes each name once."""
    return list({variable["name"]: variable for variable in env}.values())


def _env(name: str, value: EnvValue | Mapping[str, str], where: str) -> Manifest:
    if isinstance(value, str):
        return {"name": name, "value": value}
    reference = value if isinstance(value, Mapping) else value.model_dump()
    if "connection" in reference:
        raise ConfigurationError(
            f"{where}.{name}: the password of the Airflow connection {reference['connection']!r} would stand readable "
            "in the pod; put it into a Kubernetes Secret and write {secret: …, key: …}"
        )
    secret = SecretRef.model_validate(reference)
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret.secret, "key": secret.key}}}


def quantities(resources: Resources) -> Manifest:
    """Return requests and limits, which are the same; nothing if nothing is asked for."""
    asked = {"cpu": resources.cpu, "memory": resources.memory, "nvidia.com/gpu": resources.gpu or None}
    found = {name: str(value) for name, value in asked.items() if value is not None}
    return {"requests": found, "limits": found} if found else {}


def _mounts(tmp: str) -> list[Manifest]:
    # What a container of ours keeps in /tmp, such as a key for git, is none of a foreign one's business.
    return [{"name": "mlplatform-work", "mountPath": WORK}, {"name": tmp, "mountPath": "/tmp"}]  # noqa: S108


def _label(text: str) -> str:
    fitting = re.sub(r"[^A-Za-z0-9_.-]", "_", text).strip("_.-")
    if fitting == text and len(text) <= 63:
        return text
    return f"{fitting[:50].strip('_.-')}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
