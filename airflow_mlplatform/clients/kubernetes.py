"""The four things that are asked of Kubernetes about a pod: make it, look at it, read its logs, remove it.

Pods are plain dictionaries, as the API's JSON has them.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ServiceRefused, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from kubernetes_asyncio.client import ApiClient

__all__ = ["LogLine", "Pod", "PodRefused", "Pods"]

Pod = dict[str, Any]

PODS = "/api/v1/namespaces/{namespace}/pods"
POD = PODS + "/{name}"
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
# A connection that was cut without a word must not pass for a pod that prints nothing.
SILENCE_SECONDS = 60.0
NOT_NOW = frozenset({408, 425, 429})
LONGEST_LINE = 32_768
VERBS = {"GET": "get", "POST": "create", "DELETE": "delete"}


class PodRefused(ServiceRefused):
    """The API server did not take a pod.

    :param status: HTTP status.
    :param answer: its ``Status`` object.
    """

    def __init__(self, message: str, status: int, answer: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.answer = answer


@dataclass(frozen=True)
class LogLine:
    """One line of a container's log.

    :param time: when it was written, RFC 3339 with nanoseconds.
    :param text: the line.
    """

    time: str
    text: str


class Pods:
    """The pods of one namespace.

    Every method raises :class:`~airflow_mlplatform.exceptions.ServiceUnavailable` when the API server does not answer
    or cannot now, and :class:`~airflow_mlplatform.exceptions.ServiceRefused` when it will not.

    :param api: an open client.
    :param namespace: the namespace.
    """

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self._api = api
        self.namespace = namespace

    async def get(self, name: str) -> Pod | None:
        """Return a pod; ``None`` if there is none of that name."""
        status, answer = await self._ask("GET", POD, name)
        return None if status == 404 else self._accepted("GET", name, status, answer)

    async def create(self, manifest: Mapping[str, Any]) -> Pod | None:
        """Make a pod; return ``None`` if one of its name is there already.

        :raises PodRefused: if the API server does not take it.
        """
        name = manifest["metadata"]["name"]
        status, answer = await self._ask("POST", PODS, "", manifest)
        if status == 409 and answer.get("reason") == "AlreadyExists":
            return None
        return self._accepted("POST", name, status, answer)

    async def delete(self, name: str, uid: str = "", grace_seconds: int | None = None) -> None:
        """Ask for the removal of a pod; nothing happens if it has gone, or is another one by now.

        :param uid: removes only the pod that has this uid.
        :param grace_seconds: time that its processes get to end; the pod's own if left out.
        """
        body: dict[str, Any] = {"preconditions": {"uid": uid}} if uid else {}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        status, answer = await self._ask("DELETE", POD, name, body)
        if status not in (404, 409):
            self._accepted("DELETE", name, status, answer)

    async def logs(self, name: str, container: str, since: str = "") -> AsyncIterator[LogLine]:
        """Yield the lines of a container as they come, until it has ended or its connection falls silent.

        There are none before it has started, and none when the pod has gone.

        :param since: time of a line; what is older is left out.
        """
        query = [("container", container), ("follow", "true"), ("timestamps", "true")]
        query += [("sinceTime", since)] if since else []
        try:
            async with self._response("GET", POD + "/log", name, query=query, silence=SILENCE_SECONDS) as response:
                if response.status in (400, 404):  # the container has not started, or the pod has gone
                    return
                if response.status != 200:
                    self._accepted("GET", f"{name}/log", response.status, _decode(await response.read()))
                async for line in _lines(response.content):
                    time, _, text = line.partition(" ")
                    yield LogLine(time, text)
        except ServiceUnavailable as error:
            if not isinstance(error.__cause__, TimeoutError):
                raise

    async def _ask(
        self, method: str, path: str, name: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        async with self._response(method, path, name, body=body, silence=ANSWER_SECONDS) as response:
            return response.status, _decode(await response.read())

    @asynccontextmanager
    async def _response(
        self,
        method: str,
        path: str,
        name: str,
        *,
        silence: float,
        body: Mapping[str, Any] | None = None,
        query: list[tuple[str, str]] | None = None,
    ) -> AsyncIterator[Any]:
        import aiohttp

        try:
            response = await self._api.call_api(
                path,
                method,
                path_params={"namespace": self.namespace, "name": name},
                query_params=query or [],
                header_params={"Accept": "application/json, */*", "Content-Type": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=aiohttp.ClientTimeout(
                    connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=silence
                ),
            )
            async with response:
                yield response
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            why = str(error) or type(error).__name__
            raise ServiceUnavailable(f"the Kubernetes API does not answer: {why}; try again later") from error

    def _accepted(self, method: str, name: str, status: int, answer: dict[str, Any]) -> Pod:
        if status < 300:
            return answer
        if status >= 500 or status in NOT_NOW:
            raise ServiceUnavailable(f"the Kubernetes API answered {status}: {_message(answer)}; try again later")
        where = f"the Kubernetes API refused to {VERBS[method]} pod {self.namespace}/{name} ({status})"
        advice = ""
        if status in (401, 403):
            resource = "pods/log" if name.endswith("/log") else "pods"
            advice = f"; the service account that asks needs the verb {VERBS[method]} on {resource} there"
        raise PodRefused(f"{where}: {_message(answer)}{advice}", status, answer)


def _decode(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"message": body[:500].decode(errors="replace")}


def _message(answer: Mapping[str, Any]) -> str:
    return str(answer.get("message") or answer.get("reason") or "no reason given").strip()


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
