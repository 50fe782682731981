"""A small model server for the tests: the protocols `v2` and `seldon`, no model behind them.

It looks for a real MLflow model where Seldon mounts it, and behaves as the file `behaviour.json` beside it says; the
`model_version` of its answers is that behaviour's name.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path

from serving import Answer, Object, Request, serve, told

FOLDER = Path(os.environ.get("MLSERVER_MODEL_URI", "/mnt/models"))
NAME = os.environ.get("PREDICTIVE_UNIT_ID", "model")


class Model:
    """What answers.

    :param behaviour: `name`, `seconds` (of an answer), `failing` (2 fails each second request), `unready`, …
    """

    def __init__(self, behaviour: Object) -> None:
        self.name, self.unready = behaviour["name"], behaviour.get("unready", False)
        self.seconds, self.failing = behaviour.get("seconds", 0), behaviour.get("failing", 0)
        self._asked = itertools.count(1)

    def answer(self, request: Request) -> Answer:
        """Answer a request."""
        path = request.path
        if path == "/v2/health/live":
            return Answer(200)
        if path in {"/v2/health/ready", f"/v2/models/{NAME}/ready"}:
            return Answer(503 if self.unready else 200)
        if path == f"/v2/models/{NAME}":
            return told(200, {"name": NAME, "versions": [], "platform": "", "inputs": [], "outputs": []})
        if path in {f"/v2/models/{NAME}/infer", "/predict"}:
            return self._predicted(request, path == "/predict")
        missing = path.split("/")[3] if path.startswith("/v2/models/") else ""
        return told(404, {"error": f"Model {missing} not found"}) if missing else Answer(404)

    def _predicted(self, request: Request, seldon: bool) -> Answer:
        time.sleep(self.seconds)
        if self.failing and next(self._asked) % self.failing == 0:
            return told(500, {"error": "the model behaves as it was told to: it fails"})
        asked = json.loads(request.body or b"{}")
        if seldon:
            rows = len(asked.get("data", {}).get("ndarray", [0]))
            return told(200, {"data": {"names": [], "ndarray": [0] * rows}, "meta": {"tags": {"model": self.name}}})
        rows = next((one["shape"][0] for one in asked.get("inputs", [])), 1)
        output = {"name": "output-1", "shape": [rows, 1], "datatype": "INT64", "data": [0] * rows}
        answer = {"model_name": NAME, "model_version": self.name, "id": asked.get("id", "")}
        return told(200, {**answer, "parameters": {"content_type": "np"}, "outputs": [output]})


def _behaviour() -> Object:
    if not (FOLDER / "MLmodel").is_file():
        sys.exit(f"No such file or directory: '{FOLDER / 'MLmodel'}'")
    file = FOLDER / "behaviour.json"
    found: Object = json.loads(file.read_text("utf-8")) if file.is_file() else {"name": "v1"}
    if found.get("crashing"):
        sys.exit("ModuleNotFoundError: No module named 'wine_features'")
    if found.get("greedy"):
        hoard = []
        while True:
            hoard.append(bytearray(8 << 20))
    return found


if __name__ == "__main__":
    serve(int(os.environ.get("PREDICTIVE_UNIT_HTTP_SERVICE_PORT", "9000")), Model(_behaviour()).answer)
