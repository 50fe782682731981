"""What is asked of Kubernetes about pods: make one, look at it, read its logs, remove it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_mlplatform.clients.kubernetes_api import Call, KubernetesApi, Object, decode
from airflow_mlplatform.exceptions import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

__all__ = ["LogLine", "Pod", "Pods"]

Pod = Object

PODS = "/api/v1/namespaces/{namespace}/pods"
EVENTS = "/api/v1/namespaces/{namespace}/events"
# A connection that was cut without a word must not pass for a pod that prints nothing.
SILENCE_SECONDS = 60.0
LONGEST_LINE = 32_768


@dataclass(frozen=True)
class LogLine:
    """One line of a container's log.

    :param time: when it was written, RFC 3339 with nanoseconds.
    :param text: the line.
    """

    time: str
    text: str


class Pods(KubernetesApi):
    """The pods of one namespace."""

    async def get(self, name: str) -> Pod | None:
        """Return a pod; ``None`` if there is none of that name."""
        return await self.find(_call("get", "GET", name))

    async def select(self, labels: Mapping[str, str]) -> list[Pod]:
        """Return the pods that bear all of some labels."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        shown = f"pods {selector}"
        found = await self.demand(Call("list", "GET", PODS, "pods", shown, query=[("labelSelector", selector)]))
        return list(found.get("items") or ())

    async def create(self, manifest: Mapping[str, Any]) -> Pod | None:
        """Make a pod; return ``None`` if one of its name is there already.

        :raises ObjectRefused: if the API server does not take it.
        """
        call = Call("create", "POST", PODS, "pods", f"pod {manifest['metadata']['name']}", manifest)
        status, answer = await self.ask(call)
        if status == 409 and answer.get("reason") == "AlreadyExists":
            return None
        return self.accepted(call, status, answer)

    async def delete(self, name: str, uid: str = "", grace_seconds: int | None = None) -> None:
        """Ask for the removal of a pod; nothing happens if it has gone, or is another one by now.

        :param uid: removes only the pod that has this uid.
        :param grace_seconds: time that its processes get to end; the pod's own if left out.
        """
        body: dict[str, Any] = {"preconditions": {"uid": uid}} if uid else {}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        call = _call("delete", "DELETE", name, body=body)
        status, answer = await self.ask(call)
        if status not in (404, 409):
            self.accepted(call, status, answer)

    async def logs(self, name: str, container: str, since: str = "") -> AsyncIterator[LogLine]:
        """Yield the lines of a container as they come, until it has ended or its connection falls silent.

        There are none before it has started, and none when the pod has gone.

        :param since: time of a line; what is older is left out.
        """
        query = [("container", container), ("follow", "true"), ("timestamps", "true")]
        call = _log_call(name, [*query, ("sinceTime", since)] if since else query)
        try:
            async with self.response(call, SILENCE_SECONDS) as response:
                if response.status in (400, 404):  # the container has not started, or the pod has gone
                    return
                if response.status != 200:
                    self.accepted(call, response.status, decode(await response.read()))
                async for line in _lines(response.content):
                    time, _, text = line.partition(" ")
                    yield LogLine(time, text)
        except ServiceUnavailable as error:
            if not isinstance(error.__cause__, TimeoutError):
                raise

    async def last_lines(self, name: str, container: str, count: int, *, former: bool = False) -> list[str]:
        """Return the end of a container's log; nothing if it never started, or the pod has gone.

        :param former: of the container that was there before it was started again.
        """
        query = [("container", container), ("tailLines", str(count)), ("previous", str(former).lower())]
        call = _log_call(name, query)
        async with self.response(call, SILENCE_SECONDS) as response:
            body = await response.read()
            if response.status in (400, 404):
                return []
            if response.status != 200:
                self.accepted(call, response.status, decode(body))
            return list(body.decode(errors="replace").splitlines())

    async def warnings(self, name: str) -> list[str]:
        """Return what Kubernetes warned of about a pod, the newest last."""
        query = [("fieldSelector", f"involvedObject.kind=Pod,involvedObject.name={name},type=Warning")]
        found = await self.demand(Call("list", "GET", EVENTS, "events", f"events of {name}", query=query))
        events = sorted(found.get("items") or (), key=lambda event: str(event.get("lastTimestamp") or ""))
        return [str(event.get("message") or event.get("reason")) for event in events]


def _call(verb: str, method: str, name: str, body: Mapping[str, Any] | None = None) -> Call:
    return Call(verb, method, f"{PODS}/{quote(name, safe='')}", "pods", f"pod {name}", body)


def _log_call(name: str, query: list[tuple[str, str]]) -> Call:
    return Call("get", "GET", f"{PODS}/{quote(name, safe='')}/log", "pods/log", f"pod {name}/log", query=query)


async def _lines(stream: Any) -> AsyncIterator[str]:
    """Split a stream at its line ends; very long lines are cut into pieces."""
    rest = b""
    async for chunk in stream.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
        if len(rest) > LONGEST_LINE:
            yield rest.decode(errors="replace")
            # The next piece has no time of its own.
            rest = rest.partition(b" ")[0] + b" "
    if rest.strip():
        yield rest.decode(errors="replace")
