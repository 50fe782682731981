"""What a spec says about its pods, as the pod that the KubernetesExecutor lays over its worker template."""

from __future__ import annotations

from typing import Any

from kubernetes.client import Configuration, models

from airflow_mlplatform.specs.common import Defaults, EnvValue, Resources, SecretRef, Toleration

__all__ = ["pod_override"]

# The models look for a configuration each, which costs more than all the rest; they can share one.
SHARED: dict[str, Any] = {"local_vars_configuration": Configuration()}


def pod_override(defaults: Defaults) -> models.V1Pod:
    """Return image, resources, environment, service account, node selector, tolerations and labels as a pod.

    What is left out stays as the worker template has it; tolerations replace the template's. Connections in ``env``
    are left to the task, which resolves them when it runs.
    """
    container = models.V1Container(
        name="base",
        image=defaults.image,
        resources=_resources(defaults.resources),
        env=[found for name, value in defaults.env.items() if (found := _env(name, value))] or None,
        **SHARED,
    )
    spec = models.V1PodSpec(
        containers=[container],
        service_account_name=defaults.service_account,
        node_selector=dict(defaults.node_selector) or None,
        tolerations=[_toleration(one) for one in defaults.tolerations] or None,
        **SHARED,
    )
    metadata = models.V1ObjectMeta(labels=dict(defaults.labels), **SHARED) if defaults.labels else None
    return models.V1Pod(metadata=metadata, spec=spec, **SHARED)


def _resources(resources: Resources) -> models.V1ResourceRequirements | None:
    asked = {"cpu": resources.cpu, "memory": resources.memory}
    quantities = {name: str(value) for name, value in asked.items() if value is not None}
    limits = quantities | ({"nvidia.com/gpu": str(resources.gpu)} if resources.gpu else {})
    if not limits:
        return None
    return models.V1ResourceRequirements(requests=quantities or None, limits=limits, **SHARED)


def _toleration(toleration: Toleration) -> models.V1Toleration:
    return models.V1Toleration(
        key=toleration.key,
        operator=toleration.operator,
        value=toleration.value,
        effect=toleration.effect,
        toleration_seconds=toleration.tolerationSeconds,
        **SHARED,
    )


def _env(name: str, value: EnvValue) -> models.V1EnvVar | None:
    if isinstance(value, str):
        return models.V1EnvVar(name=name, value=value, **SHARED)
    if isinstance(value, SecretRef):
        selector = models.V1SecretKeySelector(name=value.secret, key=value.key, **SHARED)
        return models.V1EnvVar(name=name, value_from=models.V1EnvVarSource(secret_key_ref=selector, **SHARED), **SHARED)
    return None
