"""Connectors kept by Strimzi, reached through Kubernetes: for workers, which block, and for the triggerer."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_mlplatform.clients import strimzi_requests as requests
from airflow_mlplatform.clients.kafka_connect_entities import Connector, InitialState, Plugin, Validation
from airflow_mlplatform.clients.strimzi import KafkaConnectors
from airflow_mlplatform.connectors.strimzi import (
    CLASS,
    CLUSTER_LABEL,
    StrimziCluster,
    check_class,
    connector_of,
    manifest,
    plugins_of,
)
from airflow_mlplatform.exceptions import NotFound
from airflow_mlplatform.hooks.kubernetes import open_api

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

__all__ = ["AsyncStrimziConnectors", "StrimziConnectors"]

T = TypeVar("T")


class AsyncStrimziConnectors:
    """The connectors of one cluster, for triggers.

    :param cluster: the KafkaConnect cluster.
    :param resources: its resources.
    """

    late = True

    def __init__(self, cluster: StrimziCluster, resources: KafkaConnectors) -> None:
        self._cluster = cluster
        self._resources = resources

    @classmethod
    @asynccontextmanager
    async def opened(cls, cluster: StrimziCluster) -> AsyncIterator[AsyncStrimziConnectors]:
        """Open a client."""
        async with open_api(cluster.kubernetes_conn_id) as api:
            yield cls(cluster, KafkaConnectors(api, cluster.namespace))

    async def list_connectors(self) -> dict[str, Connector]:
        """Return all connectors of the cluster by name, in one request."""
        found = await self._resources.labelled(f"{CLUSTER_LABEL}={self._cluster.name}")
        return {one["metadata"]["name"]: connector_of(one) for one in found}

    async def restart(self, name: str) -> None:
        """Let Strimzi restart what has failed of a connector."""
        await requests.restart(self._resources, name)

    async def refresh(self, name: str) -> None:
        """Let Strimzi look now: by itself it does so every two minutes."""
        await self._resources.annotate(name, {requests.LOOK: requests.moment()})

    async def get_offsets(self, name: str) -> list[dict[str, Any]]:
        """Return how far a connector is."""
        return await requests.get_offsets(self._resources, name)


class StrimziConnectors:
    """The connectors of one cluster, for workers.

    Implements :class:`~airflow_mlplatform.connectors.backend.Connectors`.

    :param cluster: the KafkaConnect cluster.
    """

    def __init__(self, cluster: StrimziCluster) -> None:
        self._cluster = cluster

    def _ask(self, question: Callable[[KafkaConnectors], Awaitable[T]]) -> T:
        async def asked() -> T:
            async with open_api(self._cluster.kubernetes_conn_id) as api:
                return await question(KafkaConnectors(api, self._cluster.namespace))

        return asyncio.run(asked())

    def get(self, name: str) -> Connector | None:
        """Return a connector; ``None`` if there is no resource of that name."""
        found = self._ask(lambda resources: resources.get(name))
        return connector_of(found) if found else None

    def plugin(self, config: Mapping[str, str]) -> Plugin | None:
        """Return the plugin of a config; ``None`` if that is not known."""
        wanted = config.get(CLASS, "")
        return next((plugin for plugin in self._plugins() if plugin.answers_to(wanted)), None)

    def _plugins(self) -> tuple[Plugin, ...]:
        return plugins_of(self._ask(lambda resources: resources.cluster(self._cluster.name)), self._cluster)

    def validate(self, config: Mapping[str, str]) -> Validation:
        """See that the cluster has the plugin, and let the API server look at the resource.

        Kafka Connect looks at the config when Strimzi hands it on.

        :raises ConfigurationError: if there is no such cluster, or it does not have the plugin.
        """
        check_class(config[CLASS], self._plugins(), self._cluster)
        wished = manifest(config["name"], self._cluster, config, "running")
        self._ask(lambda resources: resources.apply(wished, dry_run=True))
        return Validation((), frozenset())

    def make(self, name: str, config: Mapping[str, str], state: InitialState) -> None:
        """Make a connector in a state."""
        wished = manifest(name, self._cluster, config, state)
        self._ask(lambda resources: resources.apply(wished))

    def update(self, name: str, config: Mapping[str, str] | None, state: InitialState | None) -> None:
        """Set config and state of a connector; ``None`` leaves them as they are."""
        present = self.get(name)
        if present is None:
            raise NotFound(f"there is no KafkaConnector {self._cluster.namespace}/{name} any more")
        self.make(name, config if config is not None else present.config, state or present.wished or "running")

    def delete(self, name: str) -> None:
        """Remove a connector; nothing happens if there is none of that name."""
        self._ask(lambda resources: resources.delete(name))

    def restart(self, name: str, only_failed: bool = True) -> None:
        """Let Strimzi restart a connector with its tasks."""
        self._ask(lambda resources: requests.restart(resources, name, only_failed))

    def get_offsets(self, name: str) -> list[dict[str, Any]]:
        """Return how far a connector is."""
        return self._ask(lambda resources: requests.get_offsets(resources, name))

    def set_offsets(self, name: str, offsets: Sequence[Mapping[str, Any]]) -> None:
        """Change how far a stopped connector is; partitions that are not named keep theirs."""
        self._ask(lambda resources: requests.set_offsets(resources, name, offsets))

    def reset_offsets(self, name: str) -> None:
        """Let a stopped connector begin anew."""
        self._ask(lambda resources: requests.reset_offsets(resources, name))
