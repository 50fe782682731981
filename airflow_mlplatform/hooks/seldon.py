"""Clients for what Seldon keeps in a namespace of a cluster."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlplatform.clients.kubernetes import Pods
from airflow_mlplatform.clients.seldon import SeldonDeployments
from airflow_mlplatform.hooks.kubernetes import open_api

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["SeldonCluster", "open_seldon"]


@dataclass(frozen=True)
class SeldonCluster:
    """One namespace in which models are served."""

    seldon: SeldonDeployments
    pods: Pods


@asynccontextmanager
async def open_seldon(namespace: str, conn_id: str = "") -> AsyncIterator[SeldonCluster]:
    """Open clients for what serves models in a namespace.

    :param namespace: the namespace.
    :param conn_id: Airflow connection of type kubernetes; that of the ``[mlplatform]`` section if empty.
    :raises ConfigurationError: if there is no way to reach a cluster.
    """
    async with open_api(conn_id) as api:
        yield SeldonCluster(SeldonDeployments(api, namespace), Pods(api, namespace))
