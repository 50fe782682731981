"""The pods of a Kubernetes API, in memory and over HTTP: pods do what the test says, and the API can be away."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from kubernetes_asyncio.client import ApiClient, Configuration

__all__ = ["FakeCluster"]

Pod = dict[str, Any]


class FakeCluster:
    """One namespace. A pod stays Pending until the test moves it on.

    :ivar pods: name → pod, as it is now.
    :ivar made: every manifest that was accepted, in order.
    :ivar away: whether it answers 503.
    :ivar refusal: status and answer to whoever wants to create a pod.
    """

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}
        self.made: list[Pod] = []
        self.requests: list[str] = []
        self.away = False
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self._logs: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        self._changed = asyncio.Condition()
        self._uids = itertools.count(1)
        self._runner: web.AppRunner | None = None
        self.api: ApiClient | None = None

    async def __aenter__(self) -> FakeCluster:
        application = web.Application()
        application.add_routes(self.routes())
        root = "/api/v1/namespaces/{namespace}/pods"
        application.router.add_post(root, self._create)
        application.router.add_get(root + "/{name}", self._get)
        application.router.add_delete(root + "/{name}", self._delete)
        application.router.add_get(root + "/{name}/log", self._log)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0]
        self.api = ApiClient(Configuration(host=f"http://{host}:{port}"))
        return self

    def routes(self) -> list[web.RouteDef]:
        """Return what else it answers."""
        return []

    async def __aexit__(self, *_: object) -> None:
        assert self.api is not None
        assert self._runner is not None
        await self.api.close()
        await self._runner.cleanup()

    async def until(self, condition: Any) -> None:
        """Wait until something is true of this cluster."""
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: condition(self)), 20)

    async def move(self, name: str, phase: str, **containers: dict[str, Any]) -> None:
        """Change the phase of a pod and the states of its containers."""
        async with self._changed:
            spec, status = self.pods[name]["spec"], self.pods[name]["status"]
            status["phase"] = phase
            for key, group in (("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")):
                names = [container["name"] for container in spec.get(key, ())]
                known = {found["name"]: found for found in status.get(group, ())}
                known |= {one: {"name": one, "state": containers[one]} for one in names if one in containers}
                status[group] = list(known.values())
            self._changed.notify_all()

    async def say(self, name: str, container: str, *lines: str) -> None:
        """Let a container print."""
        async with self._changed:
            for line in lines:
                count = len(self._logs[name, container])
                self._logs[name, container].append((f"2026-01-01T00:00:{count:02}.000000000Z", line))
            self._changed.notify_all()

    async def vanish(self, name: str) -> None:
        """Take a pod away, as the end of its node does."""
        async with self._changed:
            del self.pods[name]
            self._changed.notify_all()

    async def _seen(self, request: web.Request) -> web.Response | None:
        async with self._changed:
            self.requests.append(f"{request.method} {request.path.partition('/pods')[2]}")
            self._changed.notify_all()
        return _answer(503, {"message": "the API is away"}) if self.away else None

    async def _create(self, request: web.Request) -> web.Response:
        if away := await self._seen(request):
            return away
        if self.refusal:
            return _answer(*self.refusal)
        pod = await request.json()
        name = pod["metadata"]["name"]
        if name in self.pods:
            return _answer(409, {"reason": "AlreadyExists", "message": f'pods "{name}" already exists'})
        self.made.append(json.loads(json.dumps(pod)))
        self.add(pod)
        async with self._changed:
            self._changed.notify_all()
        return _answer(201, pod)

    def add(self, pod: Pod) -> None:
        """Put a pod there."""
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        pod["metadata"] |= {"uid": f"uid-{next(self._uids)}", "creationTimestamp": now}
        pod["status"] = {"phase": "Pending"}
        self.pods[pod["metadata"]["name"]] = pod

    async def _get(self, request: web.Request) -> web.Response:
        if away := await self._seen(request):
            return away
        pod = self.pods.get(request.match_info["name"])
        return _answer(200, pod) if pod else _answer(404, {"reason": "NotFound", "message": "not found"})

    async def _delete(self, request: web.Request) -> web.Response:
        if away := await self._seen(request):
            return away
        name = request.match_info["name"]
        if name not in self.pods:
            return _answer(404, {"reason": "NotFound", "message": "not found"})
        await self.vanish(name)
        return _answer(200, {"status": "Success"})

    async def _log(self, request: web.Request) -> web.StreamResponse:
        if away := await self._seen(request):
            return away
        key = (request.match_info["name"], request.query["container"])
        if not self._state(*key).keys() & {"running", "terminated"}:
            return _answer(400, {"message": "the container is waiting to start"})
        response = web.StreamResponse()
        await response.prepare(request)
        sent = 0
        while True:
            async with self._changed:
                lines = self._logs[key]
                if sent == len(lines):
                    if "running" not in self._state(*key) or self.away:
                        break
                    await self._changed.wait()
                    continue
                fresh, sent = lines[sent:], len(lines)
            for time, text in fresh:
                if time >= request.query.get("sinceTime", ""):
                    await response.write(f"{time} {text}\n".encode())
        return response

    def _state(self, name: str, container: str) -> dict[str, Any]:
        status = self.pods.get(name, {}).get("status", {})
        statuses = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        return next((dict(found["state"]) for found in statuses if found["name"] == container), {})


def _answer(status: int, body: dict[str, Any]) -> web.Response:
    return web.json_response(body, status=status)
