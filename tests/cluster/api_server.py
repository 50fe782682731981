"""The API server of the cluster that KUBECONFIG names, as plain JSON; with objects that are watched."""

from __future__ import annotations

import json
import ssl
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ApiRefused", "ApiServer", "Object", "Watched"]

Object = dict[str, Any]


class ApiRefused(Exception):
    """The API server did not do what it was asked.

    :param status: HTTP status.
    :param message: its words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ApiServer:
    """Requests with the rights of the kubeconfig; paths are those of the API, without a namespace's own."""

    def __init__(self) -> None:
        from kubernetes import client, config

        found = client.Configuration()
        config.load_kube_config(client_configuration=found)
        trust = ssl.create_default_context(cafile=found.ssl_ca_cert)
        if found.cert_file:
            trust.load_cert_chain(found.cert_file, found.key_file)
        token = found.api_key.get("authorization") or found.api_key.get("BearerToken")
        self.http = httpx.Client(
            base_url=found.host,
            verify=trust,
            headers={"Authorization": token} if token else {},
            timeout=httpx.Timeout(30, read=30),
            limits=httpx.Limits(max_connections=50),
        )

    def ask(self, method: str, path: str, body: Object | None = None, kind: str = "application/json") -> Object:
        """Return the answer's object.

        :raises ApiRefused: if it is an error.
        """
        content = None if body is None else json.dumps(body).encode()
        answer = self.http.request(method, path, content=content, headers={"Content-Type": kind})
        found: Object = answer.json()
        if answer.is_error:
            raise ApiRefused(answer.status_code, found.get("message", ""))
        return found

    def get(self, path: str) -> Object | None:
        """Return an object, or None."""
        try:
            return self.ask("GET", path)
        except ApiRefused as error:
            if error.status == 404:
                return None
            raise

    def create(self, path: str, body: Object) -> Object:
        """Create an object in a collection."""
        return self.ask("POST", path, body)

    def replace(self, path: str, body: Object) -> Object:
        """Replace an object; its resource version must be the newest."""
        return self.ask("PUT", path, body)

    def delete(self, path: str, propagation: str = "Background") -> Object:
        """Delete an object."""
        return self.ask("DELETE", path, {"propagationPolicy": propagation})

    def close(self) -> None:
        """Close the connections."""
        self.http.close()


@dataclass
class Watched:
    """All objects of one collection, kept by a list and a watch, as an operator keeps them.

    :param path: the collection, such as ``/apis/apps/v1/namespaces/x/deployments``.
    :param changed: called with each object that changed or went.
    """

    api: ApiServer
    path: str
    changed: Callable[[Object], None]
    objects: dict[str, Object] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """List, then watch in a thread."""
        version = self._list()
        self._thread = threading.Thread(target=self._run, args=(version,), name=f"watch {self.path}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._ended.set()

    def _list(self) -> str:
        found = self.api.ask("GET", self.path)
        self.objects = {one["metadata"]["name"]: one for one in found["items"]}
        for one in list(self.objects.values()):
            self.changed(one)
        return str(found["metadata"]["resourceVersion"])

    def _run(self, version: str) -> None:
        while not self._ended.is_set():
            try:
                version = self._watch(version)
            except (ApiRefused, httpx.HTTPError, RuntimeError):
                if not self._ended.wait(0.2):
                    version = self._relist(version)

    def _relist(self, version: str) -> str:
        try:
            return self._list()
        except (ApiRefused, httpx.HTTPError, RuntimeError):
            return version

    def _watch(self, version: str) -> str:
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "60"}
        silence = httpx.Timeout(30, read=65)
        with self.api.http.stream("GET", self.path, params=query, timeout=silence) as answer:
            for line in answer.iter_lines():
                if self._ended.is_set():
                    return version
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiRefused(410, event["object"].get("message", ""))
                version = event["object"]["metadata"]["resourceVersion"]
                self._take(event["type"], event["object"])
        return version

    def _take(self, kind: str, found: Object) -> None:
        if kind == "DELETED":
            self.objects.pop(found["metadata"]["name"], None)
        else:
            self.objects[found["metadata"]["name"]] = found
        self.changed(found)
