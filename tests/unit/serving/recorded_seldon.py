"""What the operator 1.17.1 wrote about a SeldonDeployment `iris`, reduced to what readiness looks at.

`iris.json` holds every state of it in order, with the spec of that moment. The Deployments of that moment are not
recorded; tests say what they were. Its predictors bear no marks, as they were not ours: here they get them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from airflow_mlplatform.serving.predictor import MARK
from airflow_mlplatform.serving.seen import Seen

__all__ = ["Moment", "deployment", "moments", "seen", "virtual_service"]

Json = dict[str, Any]
Progress = Literal["former", "rolling", "done"]

FOLDER = Path(__file__).parent / "recorded"
NO_PODS = ("traffic", "replicas")


@dataclass(frozen=True)
class Moment:
    """A state that the operator wrote.

    :param at: time of day.
    :param sdep: the resource.
    """

    at: str
    sdep: Json

    @property
    def state(self) -> str:
        """The state; empty if the operator has written none."""
        return str((self.sdep.get("status") or {}).get("state") or "")

    @property
    def generation(self) -> int:
        """Counts the specs."""
        return int(self.sdep["metadata"]["generation"])


@cache
def moments() -> tuple[Moment, ...]:
    """Return the states in order."""
    return tuple(Moment(one["at"], _resource(one)) for one in json.loads((FOLDER / "iris.json").read_text("utf-8")))


def _resource(one: Json) -> Json:
    predictors = [{**each, "labels": {MARK: _mark(each)}} for each in one["predictors"]]
    metadata = {"name": "iris", "namespace": "models", "uid": "iris-1", "generation": one["generation"]}
    return {"metadata": metadata, "spec": {"protocol": "v2", "predictors": predictors}, "status": one.get("status")}


def _mark(predictor: Json) -> str:
    pods = {key: value for key, value in predictor.items() if key not in NO_PODS}
    return hashlib.sha256(json.dumps(pods, sort_keys=True).encode()).hexdigest()[:12]


def deployment(predictor: Json, progress: Progress = "done", name: str = "iris") -> Json:
    """Return the Deployment of a predictor, as far as it is: not touched yet, in the middle, or done."""
    found: Json = json.loads((FOLDER / "deployment.json").read_text("utf-8"))
    wanted = int(predictor.get("replicas", 1))
    found["metadata"]["name"] = f"{name}-{predictor['name']}-0-{predictor['graph']['name']}"
    labels = found["spec"]["template"]["metadata"]["labels"] | {"app": found["metadata"]["name"]}
    mark = (predictor.get("labels") or {}).get(MARK)
    if mark:
        labels[MARK] = "of-the-former" if progress == "former" else mark
    found["spec"]["template"]["metadata"]["labels"] = labels
    found["spec"]["replicas"] = wanted
    old = 1 if progress == "rolling" else 0
    done = 0 if progress == "rolling" else wanted
    found["status"] |= {"replicas": done + old, "updatedReplicas": done, "availableReplicas": done}
    return found


def virtual_service(name: str) -> Json:
    """Return a recorded VirtualService: ``istio-canary`` (75/25), ``istio-4060`` or ``istio-shadow`` (20 % copied)."""
    found: Json = json.loads((FOLDER / "virtual-services.json").read_text("utf-8"))[name]
    return found


def seen(moment: Moment, progress: Progress = "done", **more: Any) -> Seen:
    """Return a recorded state with its Deployments all as far as that."""
    made = [deployment(one, progress) for one in moment.sdep["spec"]["predictors"]]
    return Seen(moment.sdep, **({"deployments": made} | more))
