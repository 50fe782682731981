"""One request to the API server of Kubernetes, and what its answer means."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ServiceRefused, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from kubernetes_asyncio.client import ApiClient

__all__ = ["ANSWER_SECONDS", "Call", "KubernetesApi", "Object", "ObjectRefused", "decode"]

Object = dict[str, Any]

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
NOT_NOW = frozenset({408, 425, 429})


class ObjectRefused(ServiceRefused):
    """The API server did not do what it was asked.

    :param status: HTTP status.
    :param answer: its ``Status`` object.
    """

    def __init__(self, message: str, status: int, answer: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.answer = answer


@dataclass(frozen=True)
class Call:
    """What is asked.

    :param verb: what roles call it (``create``).
    :param method: HTTP method.
    :param path: path with ``{namespace}``.
    :param resource: what roles call it (``pods``).
    :param shown: how messages call it (``pod train-1``).
    """

    verb: str
    method: str
    path: str
    resource: str
    shown: str
    body: Mapping[str, Any] | None = None
    query: Sequence[tuple[str, str]] = ()
    content_type: str = "application/json"


class KubernetesApi:
    """One namespace of a cluster; objects are plain dictionaries, as the API's JSON has them.

    Every method raises :class:`~airflow_mlplatform.exceptions.ServiceUnavailable` when the API server does not answer
    or cannot now, and :class:`~airflow_mlplatform.exceptions.ServiceRefused` when it will not.

    :param api: an open client.
    :param namespace: the namespace.
    """

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self._api = api
        self.namespace = namespace

    async def ask(self, call: Call) -> tuple[int, Object]:
        """Return status and body of the answer, whatever it is."""
        async with self.response(call, ANSWER_SECONDS) as response:
            return response.status, decode(await response.read())

    async def demand(self, call: Call) -> Object:
        """Return the body of the answer.

        :raises ObjectRefused: if the API server does not do it.
        """
        return self.accepted(call, *await self.ask(call))

    async def find(self, call: Call) -> Object | None:
        """Return the body of the answer; ``None`` if there is no such object."""
        status, answer = await self.ask(call)
        return None if status == 404 else self.accepted(call, status, answer)

    @asynccontextmanager
    async def response(self, call: Call, silence: float) -> AsyncIterator[Any]:
        """Send a request and yield the response.

        :param silence: longest time in seconds without a byte of the answer.
        """
        import aiohttp

        try:
            response = await self._api.call_api(
                call.path,
                call.method,
                path_params={"namespace": self.namespace},
                query_params=list(call.query),
                header_params={"Accept": "application/json, */*", "Content-Type": call.content_type},
                body=call.body,
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

    def accepted(self, call: Call, status: int, answer: Object) -> Object:
        """Return the answer, if it is what was asked for.

        :raises ServiceUnavailable: if the API server cannot now.
        :raises ObjectRefused: if it will not.
        """
        if status < 300:
            return answer
        if status >= 500 or status in NOT_NOW:
            raise ServiceUnavailable(f"the Kubernetes API answered {status}: {_message(answer)}; try again later")
        advice = ""
        if status in (401, 403):
            advice = f"; the service account that asks needs the verb {call.verb} on {call.resource} there"
        kind, _, name = call.shown.partition(" ")
        where = f"the Kubernetes API refused to {call.verb} {kind} {self.namespace}/{name} ({status})"
        raise ObjectRefused(f"{where}: {_message(answer)}{advice}", status, answer)


def decode(body: bytes) -> Object:
    """Read an answer; what is no JSON object becomes its ``message``."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"message": body[:500].decode(errors="replace")}


def _message(answer: Mapping[str, Any]) -> str:
    return str(answer.get("message") or answer.get("reason") or "no reason given").strip()
