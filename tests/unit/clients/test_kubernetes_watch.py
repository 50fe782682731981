"""Objects that are kept up to date by a watch, whatever happens to the watch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from kubernetes_asyncio.client import ApiClient, Configuration

from airflow_mlplatform.clients import kubernetes_watch
from airflow_mlplatform.clients.kubernetes_api import KubernetesApi, ObjectRefused
from airflow_mlplatform.clients.kubernetes_watch import Mirror

PODS = "/api/v1/namespaces/{namespace}/pods"
ROUTES = "/apis/networking.istio.io/v1/namespaces/{namespace}/virtualservices"


class FakePods:
    """Answers lists, and watches with what the test puts into the queue; ``None`` ends a watch.

    :ivar asked: what was asked: ``list``, or the version that a watch began at.
    """

    def __init__(self) -> None:
        self.pods = {"a": pod("a", 1)}
        self.version = 1
        self.events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.asked: list[str] = []
        self.status = 200

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            self.asked.append("list")
            found = {"metadata": {"resourceVersion": str(self.version)}, "items": list(self.pods.values())}
            return web.json_response(found if self.status == 200 else {"message": "no"}, status=self.status)
        assert request.query["allowWatchBookmarks"] == "true"
        self.asked.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        while (event := await self.events.get()) is not None:
            line = json.dumps(event).encode() + b"\n"
            await response.write(line[:7])
            await response.write(line[7:])
        return response


def pod(name: str, version: int, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, **more}


def event(kind: str, found: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": found}


@pytest.fixture
async def server() -> AsyncIterator[tuple[FakePods, KubernetesApi]]:
    fake, app = FakePods(), web.Application()
    app.add_routes([web.get(PODS, fake.answer)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with ApiClient(Configuration(host=f"http://127.0.0.1:{port}")) as api:
        yield fake, KubernetesApi(api, "models")
    await runner.cleanup()


class Changes:
    """Counts changes, and waits for them."""

    def __init__(self) -> None:
        self.count = 0
        self.came = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self.came.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while self.count < count:
                self.came.clear()
                await self.came.wait()


def mirror(api: KubernetesApi, changes: Changes, path: str = PODS, *, optional: bool = False) -> Mirror:
    return Mirror(api, path, "pods", (("labelSelector", "app=x"),), changes, optional=optional)


async def test_changes_are_told_without_another_request(server: tuple[FakePods, KubernetesApi]) -> None:
    fake, api = server
    changes = Changes()
    kept = mirror(api, changes)
    await kept.fill()
    assert set(kept.objects) == {"a"}
    keeping = asyncio.create_task(kept.keep())
    for one in (event("ADDED", pod("b", 2)), event("MODIFIED", pod("b", 3, x=1)), event("DELETED", pod("a", 4))):
        await fake.events.put(one)
    await changes.until(3)
    assert kept.objects == {"b": pod("b", 3, x=1)}
    assert fake.asked == ["list", "1"]
    keeping.cancel()


async def test_an_answer_that_the_watch_was_ahead_of_changes_nothing(server: tuple[FakePods, KubernetesApi]) -> None:
    fake, api = server
    changes = Changes()
    kept = mirror(api, changes)
    await kept.fill()
    keeping = asyncio.create_task(kept.keep())
    for one in (event("ADDED", pod("b", 9)), event("MODIFIED", pod("b", 11, x=2)), event("DELETED", pod("a", 12))):
        await fake.events.put(one)
    await changes.until(3)
    kept.learn("b", pod("b", 9, x=1))
    kept.learn("a", pod("a", 10))
    assert kept.objects == {"b": pod("b", 11, x=2)}
    kept.learn("b", pod("b", 100, x=3))
    assert kept.objects == {"b": pod("b", 100, x=3)}
    kept.learn("b", None)
    assert kept.objects == {}
    keeping.cancel()


async def test_a_watch_that_ends_goes_on_where_it_was(server: tuple[FakePods, KubernetesApi]) -> None:
    fake, api = server
    changes = Changes()
    kept = mirror(api, changes)
    await kept.fill()
    keeping = asyncio.create_task(kept.keep())
    for one in (event("MODIFIED", pod("a", 5)), event("BOOKMARK", pod("", 9)), None, event("ADDED", pod("b", 10))):
        await fake.events.put(one)
    await changes.until(2)
    assert fake.asked == ["list", "1", "9"]
    keeping.cancel()


async def test_what_is_too_old_is_listed_again(server: tuple[FakePods, KubernetesApi]) -> None:
    fake, api = server
    changes = Changes()
    kept = mirror(api, changes)
    await kept.fill()
    keeping = asyncio.create_task(kept.keep())
    fake.pods, fake.version = {"c": pod("c", 20)}, 21
    await fake.events.put(event("ERROR", {"code": 410, "message": "too old"}))
    await fake.events.put(None)
    await changes.until(1)
    assert set(kept.objects) == {"c"}
    await fake.events.put(event("ADDED", pod("d", 22)))
    await changes.until(2)
    assert fake.asked == ["list", "1", "list", "21"]
    keeping.cancel()


async def test_kinds_that_the_cluster_does_not_know(server: tuple[FakePods, KubernetesApi]) -> None:
    _, api = server
    unknown = mirror(api, Changes(), ROUTES, optional=True)
    await unknown.fill()
    await unknown.keep()
    assert unknown.objects == {}
    with pytest.raises(ObjectRefused):
        await mirror(api, Changes(), ROUTES).fill()


async def test_who_may_not_look_is_told(
    server: tuple[FakePods, KubernetesApi], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, api = server
    monkeypatch.setattr(kubernetes_watch, "FIRST_PAUSE", 0.0)
    fake.status = 403
    with pytest.raises(ObjectRefused, match="needs the verb list on pods"):
        await mirror(api, Changes()).fill()
