"""An Airflow connection of type ``kubernetes``, or the cluster of the KubernetesExecutor, becomes a client."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from airflow.configuration import conf
from airflow.sdk.exceptions import AirflowException

from airflow_mlplatform.clients.deployments import Deployments
from airflow_mlplatform.clients.kubernetes import Pods
from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.runtime.pod_manifest import PodSetup
from airflow_mlplatform.settings import EXECUTOR, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
    from kubernetes_asyncio.client import ApiClient

__all__ = ["Cluster", "open_api", "open_cluster", "open_pods", "pod_setup"]


@dataclass(frozen=True)
class Cluster:
    """One namespace of a cluster."""

    pods: Pods
    deployments: Deployments


@asynccontextmanager
async def open_pods(namespace: str = "") -> AsyncIterator[Pods]:
    """Open a client for the pods of a namespace.

    :param namespace: the namespace; that of the ``[mlplatform]`` section if empty.
    :raises ConfigurationError: if there is no way to reach a cluster.
    """
    async with open_cluster(namespace) as cluster:
        yield cluster.pods


@asynccontextmanager
async def open_cluster(namespace: str = "") -> AsyncIterator[Cluster]:
    """Open clients for what lies in a namespace.

    :param namespace: the namespace; that of the ``[mlplatform]`` section if empty.
    :raises ConfigurationError: if there is no way to reach a cluster.
    """
    async with open_api() as api:
        chosen = namespace or settings().pods.namespace
        yield Cluster(Pods(api, chosen), Deployments(api, chosen))


@asynccontextmanager
async def open_api(conn_id: str = "") -> AsyncIterator[ApiClient]:
    """Open a client for a cluster.

    :param conn_id: Airflow connection of type kubernetes; that of the ``[mlplatform]`` section if empty.
    :raises ConfigurationError: if there is no way to reach a cluster.
    """
    # Importing the client takes half a second, which other triggers need not wait for.
    hook, ConfigException = await asyncio.to_thread(_hook, conn_id)  # noqa: N806
    async with AsyncExitStack() as stack:
        try:
            api = await stack.enter_async_context(hook.get_conn())
        except (ConfigException, AirflowException, OSError) as error:
            raise ConfigurationError(
                f"no way to the Kubernetes API: {error}; name an Airflow connection of type kubernetes in [mlplatform] "
                "kubernetes_conn_id, or set [kubernetes_executor] in_cluster or config_file for the triggerer too"
            ) from error
        yield api


def _hook(conn_id: str) -> tuple[AsyncKubernetesHook, type[Exception]]:
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
    from kubernetes_asyncio.config import ConfigException

    if conn_id or settings().pods.kubernetes_conn_id:
        return AsyncKubernetesHook(conn_id=conn_id or settings().pods.kubernetes_conn_id), ConfigException
    return AsyncKubernetesHook(connection_extras=_extras_of_the_executor()), ConfigException


def _extras_of_the_executor() -> dict[str, Any]:
    if conf.getboolean(EXECUTOR, "in_cluster", fallback=True):
        return {"in_cluster": True}
    extras = {
        "kube_config_path": conf.get(EXECUTOR, "config_file", fallback=None),
        "cluster_context": conf.get(EXECUTOR, "cluster_context", fallback=None),
    }
    return {name: value for name, value in extras.items() if value}


@cache
def pod_setup() -> PodSetup:
    """Return what the pods of this deployment have in common.

    :raises ConfigurationError: if the pod template cannot be read.
    """
    pods = settings().pods
    return PodSetup(
        pods.namespace,
        pods.platform_image,
        pods.service_account,
        pods.credentials_secret,
        _template(pods.template_file),
    )


def _template(file: str) -> dict[str, Any]:
    if not file:
        return {}
    try:
        return dict(yaml.safe_load(Path(file).read_text("utf-8")) or {})
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"[kubernetes_executor] pod_template_file {file} cannot be read here: {error}; the triggerer needs it too, "
            "mount it there"
        ) from error
