"""A stand-in for Seldon's executor 1.17.1, the engine container: requests pass through, metrics have the real names.

It knows graphs of one unit, HTTP, and the protocols `seldon` and `v2`.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import socket
import sys
import threading
import time
import uuid
from collections import defaultdict

from serving import Answer, Object, Request, passed_on, serve, told

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
NAME = "seldon_api_executor_{}_requests_seconds"
HELP = {
    "client": "A histogram of latencies for client calls from executor",
    "server": "A histogram of latencies for executor server",
}
V2 = re.compile(r"/v2/models/(?:(?P<model>[^/]+?)/)?(?P<what>infer|ready)$|/v2/models/(?P<told>[^/]+)$")
SELDON = re.compile(r"/api/v(?:0\.1|1\.0)/predictions$")


class Histograms:
    """Histograms of one name, by labels."""

    def __init__(self, side: str) -> None:
        self._side, self._lock = side, threading.Lock()
        self._counts: dict[tuple[tuple[str, str], ...], list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))
        self._sums: dict[tuple[tuple[str, str], ...], float] = defaultdict(float)

    def observe(self, seconds: float, **labels: str) -> None:
        """Count a request."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            self._sums[key] += seconds
            place = next((at for at, limit in enumerate(BUCKETS) if seconds <= limit), len(BUCKETS))
            self._counts[key][place] += 1

    def lines(self) -> list[str]:
        """The text that Prometheus reads."""
        name = NAME.format(self._side)
        found = [f"# HELP {name} {HELP[self._side]}", f"# TYPE {name} histogram"]
        with self._lock:
            for key, counts in self._counts.items():
                labels, total = ",".join(f'{each}="{value}"' for each, value in key), 0
                for limit, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
                    total += count
                    found.append(f'{name}_bucket{{{labels},le="{limit}"}} {total}')
                found += [f"{name}_sum{{{labels}}} {self._sums[key]}", f"{name}_count{{{labels}}} {total}"]
                # The real one has quantiles too; the tests need no more than the counts.
                summary = f"{name}_summary"
                found += [f"{summary}_sum{{{labels}}} {self._sums[key]}", f"{summary}_count{{{labels}}} {total}"]
        return found


class Executor:
    """The engine of one predictor.

    :param words: the arguments that the operator gives.
    :param predictor: the predictor as the operator hands it over.
    """

    def __init__(self, words: argparse.Namespace, predictor: Object) -> None:
        self.words, self.graph = words, predictor["graph"]["name"]
        version = predictor.get("annotations", {}).get("version", "")
        self.labels = {
            "deployment_name": words.sdep, "predictor_name": words.predictor, "predictor_version": version,
        }  # fmt: skip
        containers = predictor["componentSpecs"][0]["spec"]["containers"]
        parts = next(one["image"] for one in containers if one["name"] == self.graph).split(":")
        # As the real one takes an image apart: a registry with a port leaves no version.
        self.image, self.version = parts[0], parts[1] if len(parts) == 2 else ""
        self.client, self.server = Histograms("client"), Histograms("server")

    def answer(self, request: Request) -> Answer:
        """Answer a request, and count it."""
        path = request.path.partition("?")[0]
        if path == self.words.prometheus_path:
            text = "\n".join([*self.client.lines(), *self.server.lines()]) + "\n"
            return Answer(200, text.encode(), (("Content-Type", "text/plain; version=0.0.4"),))
        if path in {"/live", "/ping"}:
            return Answer(200)
        if path == "/ready":
            return Answer(200 if self._reachable() else 503)
        started = time.perf_counter()
        service, found = self._routed(request, path)
        if service:
            seconds, method = time.perf_counter() - started, request.method.lower()
            self.server.observe(seconds, code=str(found.status), method=method, service=service, **self.labels)
        return found._replace(headers=(*found.headers, ("Seldon-Puid", str(uuid.uuid4()))))

    def _routed(self, request: Request, path: str) -> tuple[str, Answer]:
        v2 = self.words.protocol in {"v2", "kfserving"}
        if v2 and path == "/v2/health/ready":
            return "status", Answer(200 if self._reachable() else 503)
        if v2 and (found := V2.match(path)):
            model = found["told"] or found["model"] or self.graph
            tail = f"/{found['what']}" if found["what"] else ""
            service = {"infer": "predictions", "ready": "status"}.get(found["what"], "metadata")
            return service, self._asked(request, model, f"/v2/models/{model}{tail}", service == "predictions")
        if not v2 and SELDON.match(path):
            return "predictions", self._asked(request, self.graph, "/predict", True)
        return "", Answer(404, b"404 page not found\n", (("Content-Type", "text/plain; charset=utf-8"),))

    def _asked(self, request: Request, model: str, path: str, json_only: bool) -> Answer:
        if json_only and (problem := _not_json(request.body)):
            status = {"status": {"code": 500, "info": problem, "status": "FAILURE"}}
            return told(500, status)
        started = time.perf_counter()
        try:
            found = passed_on(request._replace(path=path), "127.0.0.1", 9000)
        except OSError as error:
            return told(500, {"status": {"code": 500, "info": str(error), "status": "FAILURE"}})
        known = model == self.graph
        self.client.observe(
            time.perf_counter() - started, code=str(found.status), method=request.method.lower(), service=path,
            model_name=model, model_image=self.image if known else "", model_version=self.version if known else "",
            **self.labels,
        )  # fmt: skip
        return found

    def _reachable(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", 9000), 1).close()
        except OSError:
            return False
        return True


def _not_json(body: bytes) -> str:
    try:
        json.loads(body or b"null")
    except ValueError as error:
        return str(error)
    return ""


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    for word in ("sdep", "namespace", "predictor", "protocol", "prometheus_path"):
        parser.add_argument(f"--{word}", required=True)
    parser.add_argument("--http_port", type=int, required=True)
    words, _ = parser.parse_known_args(sys.argv[1:])
    predictor = json.loads(base64.b64decode(os.environ["ENGINE_PREDICTOR"]))
    print("a stand-in for Seldon's executor, not the executor itself")
    serve(words.http_port, Executor(words, predictor).answer)


if __name__ == "__main__":
    main()
