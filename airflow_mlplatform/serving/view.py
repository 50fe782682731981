"""What is known of a SeldonDeployment and of all that belongs to it, kept up to date by watches.

Waiting asks nothing of the API server: what serves is listed once, and from then on told. A watch lasts half an hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.clients.kubernetes_watch import Mirror
from airflow_mlplatform.clients.seldon import SELDON
from airflow_mlplatform.exceptions import ProcessFailed, ServiceUnavailable
from airflow_mlplatform.serving.names import expected_deployments, object_labels, resource_id
from airflow_mlplatform.serving.predictor import mark_of
from airflow_mlplatform.serving.seen import Seen
from airflow_mlplatform.serving.servers import servers_of

if TYPE_CHECKING:
    from airflow_mlplatform.clients.kubernetes_api import KubernetesApi
    from airflow_mlplatform.clients.seldon import SeldonDeployments

__all__ = ["View", "acted", "open_view"]

Json = dict[str, Any]


class View:
    """A SeldonDeployment and its Deployments, pods, warnings and routes.

    :param seldon: the resources of its namespace.
    :param name: its name.
    :ivar fresh: whether nothing may have happened since the API server was asked.
    """

    def __init__(self, seldon: SeldonDeployments, name: str) -> None:
        self.seldon = seldon
        self.name = name
        self.fresh = False
        self._live: Json | None = None
        self._changed = asyncio.Event()
        self._mirrors = _mirrors(seldon, name, self._changed.set)

    async def fill(self) -> None:
        """List everything once.

        :raises ServiceError: if the API server does not answer, or will not.
        """
        for mirror in self._mirrors.values():
            await mirror.fill()
        await self.refresh()

    async def keep(self) -> None:
        """Follow all changes, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for mirror in self._mirrors.values():
                group.create_task(mirror.keep())

    async def refresh(self) -> None:
        """Ask for the resource itself again."""
        self.took(await self.seldon.get(self.name))

    def took(self, live: Json | None) -> None:
        """Know the resource from an answer of the API server, or from the watch if that was ahead of it."""
        mirror = self._mirrors["sdep"]
        mirror.learn(self.name, live)
        self._live, self.fresh = mirror.objects.get(self.name), True
        self._changed.clear()

    @property
    def live(self) -> Json | None:
        """The resource, as far as it is known; ``None`` if there is none."""
        told = self._mirrors["sdep"].objects.get(self.name)
        if told is not self._live:
            self._live, self.fresh = told, False
        return told

    @property
    def seen(self) -> Seen:
        """What is known of all of it."""
        deployments = list(self._mirrors["deployments"].objects.values())
        pods = list(self._mirrors["pods"].objects.values())
        names = {self.name, *(one["metadata"]["name"] for one in (*deployments, *pods))}
        events = [one for one in self._mirrors["events"].objects.values() if one["involvedObject"].get("name") in names]
        route = self._mirrors["routes"].objects.get(resource_id(self.name))
        return Seen(self.live, deployments, pods, events, route)

    async def changed(self, until: datetime | None) -> None:
        """Wait until something changes.

        :param until: when to stop waiting.
        """
        seconds = None if until is None else max(0.0, (until - datetime.now(UTC)).total_seconds())
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()


@asynccontextmanager
async def open_view(seldon: SeldonDeployments, name: str) -> AsyncIterator[View]:
    """Open a view and keep it up while it is used.

    :raises ProcessFailed: if the API server does not answer.
    :raises ServiceRefused: if it will not.
    """
    view = View(seldon, name)
    try:
        await view.fill()
    except ServiceUnavailable as error:
        raise ProcessFailed(f"{error}; nothing was changed") from error
    keeping = asyncio.create_task(view.keep())
    using = asyncio.current_task()
    keeping.add_done_callback(lambda task: None if task.cancelled() or using is None else using.cancel())
    try:
        yield view
    except asyncio.CancelledError:
        failed = keeping.exception() if keeping.done() and not keeping.cancelled() else None
        if failed:
            raise _first(failed) from failed
        raise
    finally:
        keeping.cancel()
        # The connections are closed next, and nobody may be reading from them then.
        await asyncio.gather(keeping, return_exceptions=True)


def acted(seen: Seen) -> bool:
    """Whether the operator has brought into the Deployments what the resource says, and it is for their pods to follow.

    :param seen: what is known.
    """
    if seen.sdep is None or not seen.sdep.get("status"):
        return False
    name, spec = seen.sdep["metadata"]["name"], seen.sdep["spec"]
    there = {one["metadata"]["name"]: one for one in seen.deployments}
    for predictor in spec["predictors"]:
        for expected in expected_deployments(name, spec, predictor):
            found = next((there[one] for one in expected.names if one in there), None)
            if found is None or mark_of(found["spec"]["template"]["metadata"]) != mark_of(predictor):
                return False
    return not all(servers_of(seen, one).complete for one in spec["predictors"])


def _mirrors(api: KubernetesApi, name: str, changed: Any) -> dict[str, Mirror]:
    labels = ",".join(f"{key}={value}" for key, value in object_labels(name).items())
    mine = (("labelSelector", labels),)
    core, apps = "/api/v1/namespaces/{namespace}", "/apis/apps/v1/namespaces/{namespace}"
    istio = "/apis/networking.istio.io/v1/namespaces/{namespace}"
    kinds: dict[str, tuple[str, str, tuple[tuple[str, str], ...]]] = {
        "deployments": (f"{apps}/deployments", "deployments.apps", mine),
        "pods": (f"{core}/pods", "pods", mine),
        "events": (f"{core}/events", "events", (("fieldSelector", "type=Warning"),)),
        "routes": (f"{istio}/virtualservices", "virtualservices.networking.istio.io", _named(resource_id(name))),
        "sdep": (SELDON, "seldondeployments.machinelearning.seldon.io", _named(name)),
    }
    return {kind: Mirror(api, *what, changed, optional=kind == "routes") for kind, what in kinds.items()}


def _named(name: str) -> tuple[tuple[str, str], ...]:
    return (("fieldSelector", f"metadata.name={name}"),)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
