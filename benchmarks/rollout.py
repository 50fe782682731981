"""What a rollout costs while it waits, and how soon a canary answers.

On the cluster that KUBECONFIG names, with the stand-in for Seldon's operator of `tests/cluster`: requests to the API
server while a canary waits, counted for a minute and with its watches ended after a tenth of it, against a loop that
asks for the resource alone every two seconds. And the seconds from the rollout's start to the canary's first answer,
without those of its pod. Run it with `make benchmarks-cluster`; it prints figures and asserts nothing about them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any
from unittest import mock

from airflow_mlplatform.clients import kubernetes_watch
from airflow_mlplatform.clients.kubernetes_api import KubernetesApi
from airflow_mlplatform.clients.seldon import SeldonDeployments
from airflow_mlplatform.hooks.kubernetes import open_api
from tests.cluster.conftest import images, node_ip, proxies, seldon, services, wine_models
from tests.cluster.seldon_endpoint import Endpoint, reach
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import pytest

    from airflow_mlplatform.clients.kubernetes_api import Call
    from tests.cluster.seldon_parts import SeldonParts

__all__ = ["images", "node_ip", "proxies", "seldon", "services", "wine_models"]

MINUTE, HOUR = 60.0, 3600.0
SHORT_WATCH = 6
POLLED_EVERY = 2.0
CANARY = {"strategy": "canary", "steps": [25, 100], "interval": "1h"}


class Polled(SeldonDeployments):
    """The resources as a loop sees them that asks again and again."""


def test_requests_of_a_rollout_that_waits(seldon: SeldonParts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Print them."""
    reach(monkeypatch, seldon.prometheus_url)
    endpoint = Endpoint(seldon, seldon.name())
    endpoint.rolled("good", task="first")
    with counted() as count:
        quiet, watches, polled = asyncio.run(waiting(endpoint, count))
    lasting = kubernetes_watch.LASTS
    ours = quiet * HOUR / MINUTE + watches * SHORT_WATCH / lasting * HOUR / MINUTE
    theirs = polled * HOUR / MINUTE
    print("\nrequests to the API server while a canary waits")
    print(f"  in a minute: {quiet}; with watches of {SHORT_WATCH} s instead of {lasting} s: {watches}")
    print(f"  an hour: {ours:.0f} (goal < 60); a loop of {POLLED_EVERY:.0f} s: {theirs:.0f}; {ours / theirs:.4f} ×")
    endpoint.seldon.delete(endpoint.name)


async def waiting(endpoint: Endpoint, count: Counter[str]) -> tuple[int, int, int]:
    """Return the requests of a minute: of a rollout, of one whose watches end soon, and of a loop."""
    async with under_way(endpoint):
        polling = asyncio.create_task(poll(endpoint))
        quiet = await in_a_minute(count, SeldonDeployments)
        polled = count[Polled.__name__]
        polling.cancel()
    with mock.patch.object(kubernetes_watch, "LASTS", SHORT_WATCH):
        async with under_way(endpoint):
            return quiet, await in_a_minute(count, SeldonDeployments), polled


@asynccontextmanager
async def under_way(endpoint: Endpoint) -> AsyncIterator[None]:
    """A rollout that waits at its first step while the block runs."""
    rolling = asyncio.create_task(endpoint.roll(endpoint.plan("better", CANARY)))
    await endpoint.until(lambda state: state.ready, "until the canary serves")
    try:
        yield
    finally:
        rolling.cancel()
        with suppress(asyncio.CancelledError):
            await rolling


async def poll(endpoint: Endpoint) -> None:
    """Ask for the resource, as a loop does that waits."""
    async with open_api() as api:
        resources = Polled(api, endpoint.seldon.kubectl.namespace)
        while True:
            await resources.get(endpoint.name)
            await asyncio.sleep(POLLED_EVERY)


async def in_a_minute(count: Counter[str], whose: type[KubernetesApi]) -> int:
    """Return the requests of the next minute."""
    before = count[whose.__name__]
    await asyncio.sleep(MINUTE)
    return count[whose.__name__] - before


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the requests to the API server while the block runs, by who sends them."""
    count: Counter[str] = Counter()
    send = KubernetesApi.response

    def response(self: KubernetesApi, call: Call, silence: float) -> Any:
        count[type(self).__name__] += 1
        return send(self, call, silence)

    with mock.patch.object(KubernetesApi, "response", response):
        yield count


def test_seconds_until_a_canary_answers(seldon: SeldonParts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Print them."""
    reach(monkeypatch, seldon.prometheus_url)
    endpoint = Endpoint(seldon, seldon.name())
    endpoint.rolled("good", task="first")
    wait_for(lambda: seldon.answering(endpoint.name), "until the gateway knows it")
    whole = asyncio.run(first_answer(endpoint))
    start = pod_start(endpoint)
    print("\nfrom the rollout's start to the canary's first answer")
    print(f"  {whole:.1f} s, {whole - start:.1f} s without its pod's start (±1 s; goal, with a look of Airflow, < 10)")
    seldon.delete(endpoint.name)


async def first_answer(endpoint: Endpoint) -> float:
    """Return the seconds until the candidate of a rollout answers."""
    began = time.monotonic()
    with endpoint.seldon.load(endpoint.name, rate=20) as load:
        async with under_way(endpoint):
            await asyncio.to_thread(wait_for, lambda: load.first.get("better"), "until the canary answers")
            return load.first["better"] - began


def pod_start(endpoint: Endpoint) -> float:
    """Return the seconds from the making of the candidate's pod to its readiness, as Kubernetes notes them."""
    selector = f"seldon-app={endpoint.name}-candidate"
    (pod,) = endpoint.seldon.kubectl.get("pods", "--selector", selector)
    ready = next(one for one in pod["status"]["conditions"] if one["type"] == "Ready")
    moments = [
        datetime.fromisoformat(text) for text in (pod["metadata"]["creationTimestamp"], ready["lastTransitionTime"])
    ]
    return (moments[1] - moments[0]).total_seconds()
