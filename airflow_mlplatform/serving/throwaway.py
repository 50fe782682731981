"""A SeldonDeployment for a moment: the very servers of a spec, one of each, and no way for traffic to get there.

Why no bare pod: model, image, storage initializer, secrets and executor come together in the operator alone, and its
defaults differ from cluster to cluster. A pod of ours would be one that nobody serves with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_mlplatform.serving.manifest import SeldonManifest
from airflow_mlplatform.serving.model import ServableModel
from airflow_mlplatform.serving.names import service_name
from airflow_mlplatform.serving.predictor import PREFIX, protocol
from airflow_mlplatform.specs.deployment import Serving

__all__ = ["EXPIRES", "OWNER", "PURPOSE", "ThrowAway", "expired", "throwaway_name"]

Manifest = dict[str, Any]
Json = Mapping[str, Any]

PURPOSE = f"{PREFIX}/preflight"
"""Label of throw-aways: name of what they are tried for."""
OWNER = f"{PREFIX}/owner"
"""Label: key of the Airflow task that made it."""
EXPIRES = f"{PREFIX}/expires"
"""Annotation: when anybody may remove it."""
LONGEST_START = 40
# With these, the throw-away would take over Services and routes of what serves.
ROUTES = ("seldon.io/svc-name", "seldon.io/ambassador", "getambassador.io/")
SCALING = ("hpaSpec", "kedaSpec", "pdbSpec", "replicas")


@dataclass(frozen=True)
class ThrowAway:
    """A model, tried in the servers that a spec describes.

    :param serving: the model server of the spec.
    :param model: the model.
    :param owner: key of the task that makes it: a retry has the same one.
    """

    serving: Serving
    model: ServableModel
    owner: str

    @property
    def name(self) -> str:
        """Its name."""
        return throwaway_name(self.serving, self.owner)

    @property
    def protocol(self) -> str:
        """Its inference protocol."""
        return protocol(self.serving)

    @property
    def node(self) -> str:
        """Name of the graph's node that holds the model."""
        return str(self._predictor()["graph"]["name"])

    @property
    def url(self) -> str:
        """Where its predictor answers, within the cluster."""
        return f"http://{service_name(self.name, self._predictor())}.{self.serving.namespace}:8000"

    def manifest(self, expires: datetime) -> Manifest:
        """Return the resource.

        :param expires: when anybody may remove it.
        :raises ConfigurationError: if the spec's template cannot be completed.
        """
        annotations = {EXPIRES: expires.isoformat()}
        found = self._wish(annotations).manifest([self._predictor()])
        labels = {**found["metadata"]["labels"], PURPOSE: self.serving.name, OWNER: self.owner}
        metadata = {**_unrouted(found["metadata"]), "name": self.name, "labels": labels}
        return {**found, "metadata": metadata, "spec": _unrouted(found["spec"])}

    def _predictor(self) -> Manifest:
        wish = self._wish({})
        found = _unrouted(wish.predictor(wish.main)) | {"replicas": 1}
        found.pop("explainer", None)
        components = found.get("componentSpecs") or ()
        return found | {"componentSpecs": [_without(one, *SCALING) for one in components]}

    def _wish(self, annotations: Json) -> SeldonManifest:
        return SeldonManifest(self.serving, self.model, {key: str(value) for key, value in annotations.items()})


def throwaway_name(serving: Serving, owner: str) -> str:
    """Return the name of a throw-away: the same for every try of a task."""
    return f"{serving.name[:LONGEST_START].rstrip('-')}-preflight-{owner[:8]}"


def expired(live: Json, now: datetime) -> bool:
    """Whether a throw-away was left behind by somebody who cannot remove it any more."""
    until = (live["metadata"].get("annotations") or {}).get(EXPIRES, "")
    try:
        return bool(live["metadata"].get("labels", {}).get(PURPOSE)) and datetime.fromisoformat(until) < now
    except ValueError:
        return False


def _unrouted(part: Json) -> Manifest:
    kept = {key: value for key, value in (part.get("annotations") or {}).items() if not key.startswith(ROUTES)}
    return {**part, **({"annotations": kept} if "annotations" in part else {})}


def _without(part: Json, *keys: str) -> Manifest:
    return {key: value for key, value in part.items() if key not in keys}
