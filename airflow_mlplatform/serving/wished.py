"""What a rollout may wish for other than a new model: less of what is there, or another number of its servers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.serving.edits import owned
from airflow_mlplatform.serving.manifest import API_VERSION, KIND
from airflow_mlplatform.serving.predictor import PREFIX, sharing
from airflow_mlplatform.serving.state import OUTCOME, STATE

__all__ = ["Named", "Remaining", "Rescaled"]

Json = Mapping[str, Any]
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Named:
    """Nothing but which resource it is: enough to go back.

    :param name: its name.
    :param namespace: its namespace.
    """

    name: str
    namespace: str

    @property
    def digest(self) -> str:
        """The same for every way back."""
        return "back"

    def predictor(self, name: str) -> Manifest:
        """Refuse: nothing new is wished for."""
        raise ConfigurationError(
            f"{self.namespace}/{self.name}: there is nothing to roll out as {name}; deploy a model"
        )

    def manifest(self, predictors: Sequence[Json]) -> Manifest:
        """Return the resource with these predictors, and nothing else."""
        metadata = {"name": self.name, "namespace": self.namespace, "labels": {}, "annotations": {}}
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": {"predictors": list(predictors)}}


@dataclass(frozen=True)
class Remaining:
    """The predictor that serves, alone: the end of an A/B test that stayed.

    :param look: tells the resource as it is now; it may be another after a wait.
    """

    look: Callable[[], Json | None]

    @property
    def live(self) -> Json:
        """The resource as it is now.

        :raises ConfigurationError: if it is not there.
        """
        found = self.look()
        if found is None:
            raise ConfigurationError("the SeldonDeployment is not there any more; deploy a model first")
        return found

    @property
    def digest(self) -> str:
        """The same for every such end."""
        return "alone"

    def predictor(self, name: str) -> Manifest:
        """Return a predictor that is there, with all traffic."""
        return sharing(next(one for one in self.live["spec"]["predictors"] if one["name"] == name), 100)

    def manifest(self, predictors: Sequence[Json]) -> Manifest:
        """Return the resource with these predictors, and else as it is."""
        metadata, spec = self.live["metadata"], self.live["spec"]
        notes, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
        ours = [key for key in notes if key.startswith(f"{PREFIX}/") and key not in (STATE, OUTCOME)]
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "labels": {key: labels[key] for key in sorted(owned(self.live, "metadata", "labels")) if key in labels},
                "annotations": {key: notes[key] for key in ours},
            },
            "spec": {
                **{key: spec[key] for key in sorted(owned(self.live)) if key in spec},
                "predictors": [dict(one) for one in predictors],
            },
        }


@dataclass(frozen=True)
class Rescaled(Remaining):
    """The servers that are there, in another number.

    :param replicas: servers of each predictor.
    """

    replicas: int

    @property
    def digest(self) -> str:
        """The same for the same number."""
        return f"replicas {self.replicas}"

    def predictor(self, name: str) -> Manifest:
        """Return a predictor that is there, in another number.

        :raises ConfigurationError: if the load decides how many servers there are.
        """
        return self._scaled(next(one for one in self.live["spec"]["predictors"] if one["name"] == name))

    def manifest(self, predictors: Sequence[Json]) -> Manifest:  # noqa: ARG002 - all that are there stay
        """Return the resource with all its predictors in another number."""
        return super().manifest([self._scaled(one) for one in self.live["spec"]["predictors"]])

    def _scaled(self, found: Json) -> Manifest:
        components = [dict(one) for one in found.get("componentSpecs") or ()]
        if any(one.keys() & {"hpaSpec", "kedaSpec"} for one in components):
            raise ConfigurationError(
                f"predictor {found['name']}: the load decides how many servers there are (autoscale); change the "
                "limits in the spec and deploy"
            )
        for component in components:
            component.pop("replicas", None)
        return {**found, "replicas": self.replicas, **({"componentSpecs": components} if components else {})}
