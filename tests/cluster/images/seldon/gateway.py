"""A stand-in for Istio's gateway: requests follow the VirtualServices of its namespace, by weight, with mirrors.

Weights are kept exactly, not by chance: of 20 requests at 5 % one goes there.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.request
from pathlib import Path

from serving import Answer, Object, Request, passed_on, serve

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
API = "https://kubernetes.default.svc/apis/networking.istio.io/v1/namespaces/{}/virtualservices"
NO_UPSTREAM = "upstream connect error or disconnect/reset before headers: {}"


class Split:
    """Who is next: each destination so often as its weight says, evenly mixed."""

    def __init__(self) -> None:
        self._owed: dict[str, dict[str, float]] = {}
        self._lock = threading.Lock()

    def next(self, route: str, weights: dict[str, float]) -> str:
        """The destination of the next request; empty if no weight is over zero."""
        total = sum(weights.values())
        if total <= 0:
            return ""
        with self._lock:
            owed = self._owed.setdefault(route, {})
            for each in list(owed):
                if each not in weights:
                    del owed[each]
            for each, weight in weights.items():
                owed[each] = owed.get(each, 0.0) + weight / total
            chosen = max(weights, key=lambda each: owed[each] if weights[each] > 0 else float("-inf"))
            owed[chosen] -= 1
            return chosen


class Gateway:
    """Routes by prefix, longest first."""

    def __init__(self) -> None:
        self.namespace = (ACCOUNT / "namespace").read_text("utf-8")
        self.routes: list[tuple[str, Object]] | None = None
        self._split = Split()

    def follow(self) -> None:
        """Keep the routes as the cluster has them."""
        trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        while True:
            token = (ACCOUNT / "token").read_text("utf-8")
            asked = urllib.request.Request(API.format(self.namespace), headers={"Authorization": f"Bearer {token}"})
            try:
                with urllib.request.urlopen(asked, timeout=5, context=trust) as found:
                    self.routes = _routes(json.load(found)["items"])
            except OSError as error:
                print(f"the API server does not answer: {error}")
            time.sleep(0.2)

    def answer(self, request: Request) -> Answer:
        """Pass a request on."""
        if self.routes is None:
            return _unreached("no routes are known yet")
        prefix, route = next(((key, one) for key, one in self.routes if request.path.startswith(key)), ("", None))
        if route is None:
            return Answer(200) if request.path == "/ready" else Answer(404, b"no route")
        onward = request._replace(path=route.get("rewrite", {}).get("uri", prefix) + request.path[len(prefix) :])
        if mirror := route.get("mirror"):
            self._copy(onward, prefix, mirror, route.get("mirrorPercentage", {}).get("value", 100))
        ends = {_end(one["destination"]): float(one.get("weight", 0)) for one in route["route"]}
        # A single destination needs no weight.
        chosen = self._split.next(prefix, ends if len(ends) > 1 else dict.fromkeys(ends, 1.0))
        return _sent(onward, chosen) if chosen else _unreached(f"{prefix} has no weights")

    def _copy(self, request: Request, prefix: str, mirror: Object, percent: float) -> None:
        weights = {"copy": percent, "": 100 - percent}
        if self._split.next(f"mirror {prefix}", weights) == "copy":
            threading.Thread(target=_sent, args=(request, _end(mirror)), daemon=True).start()


def _routes(found: list[Object]) -> list[tuple[str, Object]]:
    routes = [
        (match["uri"]["prefix"], route)
        for one in found
        for route in one["spec"].get("http", [])
        for match in route.get("match", [])
        if "prefix" in match.get("uri", {})
    ]
    return sorted(routes, key=lambda one: -len(one[0]))


def _end(destination: Object) -> str:
    return f"{destination['host']}:{destination['port']['number']}"


def _sent(request: Request, end: str) -> Answer:
    """Send a request on; what is refused is tried again twice, as Istio does by default.

    Istio's gateway knows the pods itself; here kube-proxy stands between, whose rules come up to a second late.
    """
    host, _, port = end.partition(":")
    why = ""
    for pause in (0.5, 1.0, 0.0):
        try:
            return passed_on(request, host, int(port))
        except ConnectionRefusedError as error:
            why = str(error)
            time.sleep(pause)
        except OSError as error:
            return _unreached(f"{host.partition('.')[0]}: {error}")
    return _unreached(f"{host.partition('.')[0]}: {why}")


def _unreached(why: str) -> Answer:
    return Answer(503, NO_UPSTREAM.format(why).encode())


if __name__ == "__main__":
    print("a stand-in for Istio's gateway, not the gateway itself")
    gateway = Gateway()
    threading.Thread(target=gateway.follow, daemon=True).start()
    serve(8080, gateway.answer)
