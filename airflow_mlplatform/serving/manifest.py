"""The SeldonDeployment that is wished for.

The resource: https://docs.seldon.io/projects/seldon-core/en/v1.17.1/reference/seldon-deployment.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.serving.model import ServableModel
from airflow_mlplatform.serving.predictor import PREFIX, main_name, predictor, protocol
from airflow_mlplatform.specs.deployment import Serving

__all__ = ["API_VERSION", "KIND", "SeldonManifest"]

Manifest = dict[str, Any]
Json = Mapping[str, Any]

API_VERSION = "machinelearning.seldon.io/v1"
KIND = "SeldonDeployment"
MANAGED_BY = {"app.kubernetes.io/managed-by": "airflow-mlplatform"}


@dataclass(frozen=True)
class SeldonManifest:
    """One model, served as a spec says.

    Implements :class:`~airflow_mlplatform.serving.plan.Resource`.

    :param serving: the model server. Serialized, it must keep which keys were given
        (``model_dump(exclude_unset=True)``): only those win over its template.
    :param model: the model.
    :param annotations: of the resource, such as the DAG run that applied it; no pod notices when they change.
    """

    serving: Serving
    model: ServableModel
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def main(self) -> str:
        """Name of the predictor that serves, where none does yet: that of the template's, or ``main``."""
        return main_name(self.serving)

    @property
    def digest(self) -> str:
        """The same for the same wish, whoever has it."""
        wish = [self._metadata({}), self.spec([self.predictor(self.main)])]
        return hashlib.sha256(json.dumps(wish, sort_keys=True).encode()).hexdigest()[:16]

    def predictor(self, name: str) -> Manifest:
        """Return the predictor that serves the model, with all traffic.

        :raises ConfigurationError: if the template cannot be completed, or a secret would show.
        """
        return predictor(self.serving, self.model, name)

    def manifest(self, predictors: Sequence[Json]) -> Manifest:
        """Return the resource with these predictors: all fields that are ours, and no others.

        :param predictors: one, or two with their shares
            (:func:`~airflow_mlplatform.serving.predictor.sharing`); those that stay as the live resource has them.
        :raises ConfigurationError: if the template is no SeldonDeployment of version v1.
        """
        metadata = self._metadata({**self._told(), **self.annotations})
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": self.spec(predictors)}

    def spec(self, predictors: Sequence[Json]) -> Manifest:
        """Return the resource's spec with these predictors."""
        return {**self.shared, "predictors": [dict(one) for one in predictors]}

    @property
    def shared(self) -> Manifest:
        """What all predictors share: if it changes, the pods of every predictor are replaced."""
        given = {key: value for key, value in (self._template().get("spec") or {}).items() if key != "predictors"}
        return {**given, "protocol": protocol(self.serving)}

    def _metadata(self, annotations: Mapping[str, str]) -> Manifest:
        given = self._template().get("metadata") or {}
        return {
            "name": self.serving.name,
            "namespace": self.serving.namespace,
            "labels": {**(given.get("labels") or {}), **MANAGED_BY},
            "annotations": {**(given.get("annotations") or {}), **annotations},
        }

    def _told(self) -> dict[str, str]:
        model = self.model
        told = {"model": model.name, "version": model.version, "mlflow_run": model.run_id, "model_uri": model.uri}
        return {f"{PREFIX}/{key}": value for key, value in told.items() if value}

    def _template(self) -> Json:
        template = self.serving.template
        for key, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
            if template.get(key, wanted) != wanted:
                raise ConfigurationError(
                    f"serving.template: {key} is {template[key]!r}, and only {wanted} can be completed; convert it"
                )
        return template
