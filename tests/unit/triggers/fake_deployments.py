"""Deployments beside the pods of the fake cluster. A version is as well, or as bad, as the test says.

Server-side apply of the only manager there is: what was applied replaces what was there. tests/cluster shows the same
rollouts on a real cluster.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from airflow_mlplatform.runtime.app_deployment import VERSION
from tests.unit.triggers.fake_cluster import FakeCluster

__all__ = ["FakeDeployments"]

Deployment = dict[str, Any]


class FakeDeployments(FakeCluster):
    """One namespace with deployments.

    :ivar deployments: name → deployment, as it is now.
    :ivar applied: every manifest that was applied, in order.
    :ivar bad: label value of a version → the pod that it has, which never becomes well.
    :ivar lines: what containers printed last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.deployments: dict[str, Deployment] = {}
        self.applied: list[Deployment] = []
        self.bad: dict[str, dict[str, Any]] = {}
        self.warnings: list[str] = []
        self.lines: list[str] = []
        self.on_apply: Callable[[Deployment], None] = lambda _: None

    def routes(self) -> list[web.RouteDef]:
        """Return what it answers."""
        root = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        core = "/api/v1/namespaces/{namespace}"
        return [
            web.get(root, self._get_deployment),
            web.patch(root, self._apply),
            web.delete(root, self._delete_deployment),
            web.get(f"{core}/pods", self._list),
            web.get(f"{core}/events", self._events),
            web.get(f"{core}/pods/{{name}}/log", self._last_lines),
        ]

    async def _get_deployment(self, request: web.Request) -> web.Response:
        if away := await self._seen(request):
            return away
        found = self.deployments.get(request.match_info["name"])
        if found is None:
            return web.json_response({"reason": "NotFound"}, status=404)
        answer = web.json_response(found)
        if found["spec"].get("replicas") == 0:
            self._control(found)
        return answer

    async def _apply(self, request: web.Request) -> web.Response:
        if away := await self._seen(request):
            return away
        if self.refusal:
            return web.json_response(self.refusal[1], status=self.refusal[0])
        assert request.content_type == "application/apply-patch+yaml"
        wished = json.loads(await request.text())
        name = request.match_info["name"]
        there = self.deployments.get(name)
        metadata = {"uid": f"uid-{len(self.applied)}", "generation": 1, **((there or {}).get("metadata") or {})}
        changed = there is not None and there["spec"] != wished["spec"]
        metadata = {**metadata, **wished["metadata"], "generation": metadata["generation"] + changed}
        found = {**wished, "metadata": metadata}
        if "dryRun" not in request.query:
            self.applied.append(wished)
            self.deployments[name] = found
            self._control(found)
            self.on_apply(found)
        return web.json_response(found)

    def _control(self, deployment: Deployment) -> None:
        wanted, version = deployment["spec"]["replicas"], version_of(deployment)
        if version in self.bad and (wanted or "status" not in deployment):
            # It is not well; and pods that are to go stay for a moment.
            counts = {"replicas": wanted + 1, "updatedReplicas": 1, "availableReplicas": wanted}
        else:
            counts = {"replicas": wanted, "updatedReplicas": wanted, "availableReplicas": wanted}
        deployment["status"] = {"observedGeneration": deployment["metadata"]["generation"], **counts}

    async def _delete_deployment(self, request: web.Request) -> web.Response:
        if away := await self._seen(request):
            return away
        self.deployments.pop(request.match_info["name"], None)
        return web.json_response({"status": "Success"})

    async def _list(self, request: web.Request) -> web.Response:
        if away := await self._seen(request):
            return away
        wanted = request.query["labelSelector"].rpartition(f"{VERSION}=")[2]
        return web.json_response({"items": [self.bad[wanted]] if wanted in self.bad and self.deployments else []})

    async def _events(self, request: web.Request) -> web.Response:
        if away := await self._seen(request):
            return away
        return web.json_response({"items": [{"message": message} for message in self.warnings]})

    async def _last_lines(self, request: web.Request) -> web.Response:
        if away := await self._seen(request):
            return away
        return web.Response(text="\n".join(self.lines))


def version_of(deployment: Deployment) -> str:
    """Return the label value of a version."""
    return str(deployment["spec"]["template"]["metadata"]["labels"][VERSION])
