"""What is asked of Kubernetes about SeldonDeployments; they are watched by a ``Mirror``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_mlplatform.clients.field_owners import Owned, conflicts, release
from airflow_mlplatform.clients.kubernetes_api import Call, KubernetesApi, Object, ObjectRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FIELD_MANAGER", "ChangedMeanwhile", "Conflict", "SeldonDeployments"]

FIELD_MANAGER = "airflow-mlplatform"
SELDON = "/apis/machinelearning.seldon.io/v1/namespaces/{namespace}/seldondeployments"
RESOURCE = "seldondeployments.machinelearning.seldon.io"
UNTYPED = "failed to create typed patch object"


class ChangedMeanwhile(ObjectRefused):
    """Somebody wrote between the look and the write: look again."""


class Conflict(ObjectRefused):
    """Somebody else manages fields of which the manifest says something else.

    :param owned: the fields.
    """

    def __init__(self, message: str, answer: Mapping[str, Any], owned: Sequence[Owned]) -> None:
        super().__init__(message, 409, answer)
        self.owned = tuple(owned)


class SeldonDeployments(KubernetesApi):
    """The SeldonDeployments of one namespace."""

    async def get(self, name: str) -> Object | None:
        """Return a resource; ``None`` if there is none of that name."""
        return await self.find(_call("get", "GET", name))

    async def labelled(self, selector: str) -> list[Object]:
        """Return the resources that a label selector chooses."""
        query = [("labelSelector", selector)]
        found = await self.demand(Call("list", "GET", SELDON, RESOURCE, f"seldondeployments {selector}", query=query))
        return list(found["items"])

    async def apply(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """Make a resource what the manifest says, by server-side apply; what it leaves open stays as others set it.

        With ``metadata.uid`` and ``metadata.resourceVersion`` it changes that very resource in that very state. Without
        the uid, one that has gone would be made anew.

        :param dry_run: only return what it would be.
        :raises ChangedMeanwhile: if the resource is of another version by now.
        :raises Conflict: if somebody else manages a field that would change.
        :raises ObjectRefused: if the API server, or Seldon's own check, does not take it.
        """
        query = [("fieldManager", FIELD_MANAGER), *([("dryRun", "All")] if dry_run else [])]
        call = _call("patch", "PATCH", manifest["metadata"]["name"], manifest, query, "apply-patch+yaml")
        status, answer = await self.ask(call)
        if status == 409:
            raise await self._conflict(manifest["metadata"]["name"], answer)
        # A manifest that no schema allows is answered like an outage.
        mistaken = status == 500 and UNTYPED in str(answer.get("message"))
        return self.accepted(call, 422 if mistaken else status, answer)

    async def delete(self, name: str, uid: str) -> None:
        """Ask for the removal of a resource; it goes after all that Seldon made of it.

        Nothing happens if it has gone, or is another one by now.
        """
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
        call = _call("delete", "DELETE", name, body)
        status, answer = await self.ask(call)
        if status not in (404, 409):
            self.accepted(call, status, answer)

    async def groups(self) -> frozenset[str]:
        """Return the names of the API groups of the cluster."""
        found = await self.demand(Call("get", "GET", "/apis", "API groups", "API groups"))
        return frozenset(str(one["name"]) for one in found["groups"])

    async def _conflict(self, name: str, answer: Object) -> ObjectRefused:
        owned = conflicts(answer)
        where = f"seldondeployment {self.namespace}/{name}"
        if not owned:
            return ChangedMeanwhile(f"{where} was changed by somebody in the meantime; try again", 409, answer)
        whose = "; ".join(f"{one.manager} manages {one.field}" for one in owned)
        patch = json.dumps(release(await self.get(name) or {}, owned))
        message = (
            f"{where} is left as it is, because somebody else set what this would change: {whose}. Say the same in the "
            f"spec, or hand it over: kubectl -n {self.namespace} patch sdep {name} --type=json -p '{patch}'"
        )
        return Conflict(message, answer, owned)


def _call(
    verb: str,
    method: str,
    name: str,
    body: Mapping[str, Any] | None = None,
    query: Sequence[tuple[str, str]] = (),
    content: str = "json",
) -> Call:
    path = f"{SELDON}/{quote(name, safe='')}"
    return Call(verb, method, path, RESOURCE, f"seldondeployment {name}", body, query, f"application/{content}")
