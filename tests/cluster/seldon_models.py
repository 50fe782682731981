"""Real MLflow models to serve: one scikit-learn classifier, stored as several versions that behave differently."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.cluster.services import Services

__all__ = ["BUCKET", "StoredModel", "WineModels", "fitted", "store_models"]

BUCKET = "models"
MODEL = "served-wine"
# What the small model server of the tests does; `missing` is registered, but nothing is stored.
BEHAVIOURS: dict[str, dict[str, Any]] = {
    "good": {},
    "better": {},
    "failing": {"failing": 2},
    "slow": {"seconds": 0.5},
    "crashing": {"crashing": True},
    "unready": {"unready": True},
    "greedy": {"greedy": True},
    "missing": {},
}
ALIASES = {"good": "champion", "better": "challenger"}
RMSE = {"good": 0.5, "better": 0.4}


@dataclass(frozen=True)
class StoredModel:
    """A version of the registered model.

    :param name: how it behaves.
    :param version: its version in MLflow.
    :param uri: where its files lie, such as ``s3://models/ab12cd/good``.
    :param run_id: its run in MLflow.
    """

    name: str
    version: str
    uri: str
    run_id: str


@dataclass(frozen=True)
class WineModels:
    """All versions of one registered model.

    :param registered: its name in MLflow.
    :param stored: its versions, by how they behave.
    :param saved: the folder of the model on this machine.
    """

    registered: str
    stored: Mapping[str, StoredModel]
    saved: Path


def fitted(folder: Path) -> Path:
    """Train and save a classifier of wines; the folder that MLflow made, with an input example."""
    import mlflow
    from mlflow.models import infer_signature
    from sklearn.datasets import load_wine
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, kinds = load_wine(return_X_y=True, as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, kinds)
    mlflow.sklearn.save_model(
        model,
        folder / "wine",
        signature=infer_signature(features, model.predict(features)),
        input_example=features.iloc[[0, 60, 140]],
        pip_requirements=[f"mlflow=={mlflow.__version__}", "scikit-learn"],
    )
    return folder / "wine"


def store_models(services: Services, saved: Path) -> WineModels:
    """Store one version for each behaviour in S3 and register all in MLflow.

    :param saved: a saved model.
    """
    from mlflow import MlflowClient

    prefix = uuid4().hex[:6]
    client = MlflowClient(services.mlflow_url)
    experiment = client.create_experiment(f"{MODEL}-{prefix}")
    client.create_registered_model(name := f"{MODEL}-{prefix}")
    found = {}
    for behaviour, told in BEHAVIOURS.items():
        place = f"{BUCKET}/{prefix}/{behaviour}"
        if behaviour != "missing":
            _upload(services, saved, place, {"name": behaviour, **told})
        run = client.create_run(experiment, run_name=behaviour)
        client.log_metric(run.info.run_id, "rmse", RMSE.get(behaviour, 0.6))
        client.set_terminated(run.info.run_id)
        version = client.create_model_version(name, f"s3://{place}", run.info.run_id)
        if alias := ALIASES.get(behaviour):
            client.set_registered_model_alias(name, alias, version.version)
        found[behaviour] = StoredModel(behaviour, str(version.version), f"s3://{place}", run.info.run_id)
    return WineModels(name, found, saved)


def _upload(services: Services, saved: Path, place: str, behaviour: dict[str, Any]) -> None:
    for file in saved.rglob("*"):
        if file.is_file():
            services.upload(file, f"{place}/{file.relative_to(saved)}")
    with services.filesystem().open_output_stream(f"{place}/behaviour.json") as sink:
        sink.write(json.dumps(behaviour).encode())
