"""What is asked of Kubernetes about KafkaConnector resources of Strimzi, and what belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_mlplatform.clients.kubernetes_api import Call, KubernetesApi, Object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["KafkaConnectors"]

CONNECTORS = "/apis/kafka.strimzi.io/v1/namespaces/{namespace}/kafkaconnectors"
RESOURCE = "kafkaconnectors.kafka.strimzi.io"
CLUSTERS = "/apis/kafka.strimzi.io/v1/namespaces/{namespace}/kafkaconnects"
CONFIG_MAPS = "/api/v1/namespaces/{namespace}/configmaps"
FIELD_MANAGER = "airflow-mlplatform"
# Apply would take away what the same manager does not repeat.
NOTES_MANAGER = "airflow-mlplatform-notes"


class KafkaConnectors(KubernetesApi):
    """The KafkaConnector resources of one namespace."""

    async def get(self, name: str) -> Object | None:
        """Return a resource; ``None`` if there is none of that name."""
        return await self.find(self._call("get", "GET", name))

    async def cluster(self, name: str) -> Object | None:
        """Return the KafkaConnect resource of that name; ``None`` if there is none."""
        path = f"{CLUSTERS}/{quote(name, safe='')}"
        return await self.find(Call("get", "GET", path, "kafkaconnects.kafka.strimzi.io", f"kafkaconnect {name}"))

    async def labelled(self, selector: str) -> list[Object]:
        """Return the resources that bear a label."""
        query = [("labelSelector", selector)]
        answer = await self.demand(Call("list", "GET", CONNECTORS, RESOURCE, "kafkaconnectors", query=query))
        return list(answer["items"])

    async def apply(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """Make a resource what the manifest says, by server-side apply, down to the keys that others put there.

        :param dry_run: only return what it would be.
        :raises ObjectRefused: if the API server does not take it.
        """
        name = manifest["metadata"]["name"]
        query = [("fieldManager", FIELD_MANAGER), ("force", "true"), *([("dryRun", "All")] if dry_run else [])]
        found = await self.demand(self._call("patch", "PATCH", name, manifest, query, "apply-patch+yaml"))
        foreign = found["spec"].get("config", {}).keys() - manifest["spec"]["config"].keys()
        if foreign and not dry_run:
            found = await self.merge(name, {"spec": {"config": dict.fromkeys(sorted(foreign))}})
        return found

    async def annotate(
        self, name: str, annotations: Mapping[str, str | None], spec: Mapping[str, Any] | None = None
    ) -> Object:
        """Set annotations (``None`` removes one); whatever they say, Strimzi looks at the connector again.

        :param spec: what is set in the spec at the same time.
        """
        patch: dict[str, Any] = {"metadata": {"annotations": dict(annotations)}}
        return await self.merge(name, patch | ({"spec": dict(spec)} if spec else {}))

    async def delete(self, name: str) -> None:
        """Remove a resource; nothing happens if there is none."""
        call = self._call("delete", "DELETE", name)
        status, answer = await self.ask(call)
        if status != 404:
            self.accepted(call, status, answer)

    async def merge(self, name: str, patch: Mapping[str, Any]) -> Object:
        """Change some fields of a resource and return it."""
        query = [("fieldManager", NOTES_MANAGER)]
        return await self.demand(self._call("patch", "PATCH", name, patch, query, "merge-patch+json"))

    async def config_map(self, name: str) -> Object | None:
        """Return a ConfigMap; ``None`` if there is none of that name."""
        return await self.find(self._config_map("get", "GET", name))

    async def write_config_map(self, name: str, data: Mapping[str, str], owner: Object) -> None:
        """Make a ConfigMap with this content, which goes with the resource that owns it."""
        of = {
            **{key: owner[key] for key in ("apiVersion", "kind")},
            **{key: owner["metadata"][key] for key in ("name", "uid")},
        }
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": [of]}}
        query = [("fieldManager", FIELD_MANAGER), ("force", "true")]
        await self.demand(self._config_map("patch", "PATCH", name, {**body, "data": dict(data)}, query))

    @staticmethod
    def _config_map(
        verb: str,
        method: str,
        name: str,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
    ) -> Call:
        path, content = f"{CONFIG_MAPS}/{quote(name, safe='')}", "application/apply-patch+yaml"
        return Call(verb, method, path, "configmaps", f"configmap {name}", body, query, content)

    @staticmethod
    def _call(
        verb: str,
        method: str,
        name: str,
        body: Mapping[str, Any] | None = None,
        query: list[tuple[str, str]] | None = None,
        content: str = "json",
    ) -> Call:
        path = f"{CONNECTORS}/{quote(name, safe='')}"
        return Call(verb, method, path, RESOURCE, f"kafkaconnector {name}", body, query or (), f"application/{content}")
