"""What is asked of Kubernetes about deployments: make one or change it, look at it, remove it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_mlplatform.clients.kubernetes_api import Call, KubernetesApi, Object

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FIELD_MANAGER", "Deployment", "Deployments"]

Deployment = Object

FIELD_MANAGER = "airflow-mlplatform"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{namespace}/deployments"
RESOURCE = "deployments.apps"
UNTYPED = "failed to create typed patch object"


class Deployments(KubernetesApi):
    """The deployments of one namespace."""

    async def get(self, name: str) -> Deployment | None:
        """Return a deployment; ``None`` if there is none of that name."""
        return await self.find(Call("get", "GET", _path(name), RESOURCE, f"deployment {name}"))

    async def apply(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> Deployment:
        """Make a deployment what the manifest says; what it leaves open stays as others have set it.

        Server-side apply: https://kubernetes.io/docs/reference/using-api/server-side-apply/

        :param dry_run: only return what it would be.
        :raises ObjectRefused: if the API server does not take it.
        """
        name = manifest["metadata"]["name"]
        query = [("fieldManager", FIELD_MANAGER), ("force", "true"), *([("dryRun", "All")] if dry_run else [])]
        call = Call(
            "patch", "PATCH", _path(name), RESOURCE, f"deployment {name}", manifest, query,
            content_type="application/apply-patch+yaml",
        )  # fmt: skip
        status, answer = await self.ask(call)
        # A manifest that no schema allows, such as two variables of one name, is answered like an outage.
        mistaken = status == 500 and UNTYPED in str(answer.get("message"))
        return self.accepted(call, 422 if mistaken else status, answer)

    async def delete(self, name: str, uid: str) -> None:
        """Ask for the removal of a deployment; it goes after its pods. Nothing happens if it is another one by now."""
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
        call = Call("delete", "DELETE", _path(name), RESOURCE, f"deployment {name}", body)
        status, answer = await self.ask(call)
        if status not in (404, 409):
            self.accepted(call, status, answer)


def _path(name: str) -> str:
    return f"{DEPLOYMENTS}/{quote(name, safe='')}"
