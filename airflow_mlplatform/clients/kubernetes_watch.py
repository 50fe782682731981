"""Objects of Kubernetes, kept up to date by a watch: listed once, and then told of every change.

The protocol: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.clients.kubernetes_api import Call, KubernetesApi, Object, ObjectRefused, decode
from airflow_mlplatform.exceptions import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Mirror"]

LASTS = 1800
"""Seconds after which the API server ends a watch that it has not ended before."""
# Bookmarks come every minute, so that longer silence is a connection that was cut.
SILENCE_SECONDS = 240.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
LONGEST_EVENT = 16 * 2**20


@dataclass
class Mirror:
    """The objects of one kind that a selector chooses.

    :param api: the namespace that they are in.
    :param path: of the API server, with ``{namespace}``.
    :param resource: what roles call them (``pods``).
    :param query: what chooses them: ``labelSelector`` or ``fieldSelector``.
    :param changed: called whenever one of them changes.
    :param optional: whether the cluster may not know such objects at all; then there are none.
    :ivar objects: the objects by their name.
    """

    api: KubernetesApi
    path: str
    resource: str
    query: tuple[tuple[str, str], ...]
    changed: Callable[[], None]
    optional: bool = False
    objects: dict[str, Object] = field(default_factory=dict, init=False)
    _version: str = field(default="", init=False)

    async def fill(self) -> None:
        """List the objects.

        :raises ServiceUnavailable: if the API server does not answer.
        :raises ObjectRefused: if it will not.
        """
        status, answer = await self.api.ask(self._call("list"))
        if status == 404 and self.optional:
            return
        found = self.api.accepted(self._call("list"), status, answer)
        self.objects = {item["metadata"]["name"]: item for item in found.get("items") or ()}
        self._version = str((found.get("metadata") or {}).get("resourceVersion") or "")

    def learn(self, name: str, item: Object | None) -> None:
        """Know an object from the answer to a request, unless the watch has told of later changes already.

        Answers and the watch come on connections of their own, so that either may be the later one.

        :param item: the object; ``None`` if there is none.
        """
        if item is None:
            self.objects.pop(name, None)
        elif not _before(item["metadata"]["resourceVersion"], self._version):
            self.objects[name] = item

    async def keep(self) -> None:
        """Follow the changes, for ever; what was missed while the API server was away is listed again.

        :raises ObjectRefused: if the API server will not tell.
        """
        pause = FIRST_PAUSE
        while self._version or not self.optional:
            try:
                if not self._version:
                    await self.fill()
                    self.changed()
                async for event in self._events():
                    self._take(event)
                    pause = FIRST_PAUSE
            except ServiceUnavailable as error:
                if not isinstance(error.__cause__, TimeoutError):
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
            except ObjectRefused as error:
                if error.status != 410:
                    raise
                self._version = ""

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, item = event["type"], event["object"]
        if kind == "ERROR":
            code = int(item.get("code") or 500)
            self._version = ""
            if code != 410:
                raise ServiceUnavailable(f"the watch of {self.resource} ended: {item.get('message')}; trying again")
            return
        self._version = item["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return
        if kind == "DELETED":
            self.objects.pop(item["metadata"]["name"], None)
        else:
            self.objects[item["metadata"]["name"]] = item
        self.changed()

    async def _events(self) -> AsyncIterator[Mapping[str, Any]]:
        more = (("watch", "true"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", str(LASTS)))
        call = self._call("watch")
        call = replace(call, query=(*call.query, *more, ("resourceVersion", self._version)))
        async with self.api.response(call, SILENCE_SECONDS) as response:
            if response.status != 200:
                self.api.accepted(call, response.status, decode(await response.read()))
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield json.loads(line)

    def _call(self, verb: str) -> Call:
        return Call(verb, "GET", self.path, self.resource, self.resource, query=self.query)


def _before(version: str, other: str) -> bool:
    """Whether a version is older than another: numbers of one count for all objects; what is none is not compared."""
    return version.isdecimal() and other.isdecimal() and int(version) < int(other)
