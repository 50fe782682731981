"""A model of grapes: its specs as users write them, trainings, and requests of its callers."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from sklearn.datasets import load_wine

if TYPE_CHECKING:
    from airflow_mlplatform.demo.airflow_api import DagRun
    from tests.cluster.serving_platform import ServingPlatform

__all__ = ["DEPLOYMENT", "GRAPES", "TRAINING", "measurements", "publish_grapes", "train"]

SPECS = Path(__file__).parent / "specs" / "grapes"
GRAPES, TRAINING, DEPLOYMENT = "grapes", "grapes-training", "grapes-deployment"


def publish_grapes(serving: ServingPlatform, image: str) -> None:
    """Push the specs and wait until their DAGs are there.

    :param image: of the model server.
    """
    given = {"NAMESPACE": serving.seldon.kubectl.namespace, "IMAGE": image}
    files = {
        f"grapes/{file.relative_to(SPECS)}": Template(file.read_text("utf-8")).substitute(given)
        for file in SPECS.rglob("*")
        if file.is_file()
    }
    serving.platform.publish(files, TRAINING, DEPLOYMENT)


def train(serving: ServingPlatform, strength: float, scaling: str = "standard") -> DagRun:
    """Train and register a challenger.

    :param strength: inverse strength of the regularisation: 0.01 is mediocre, 1 is good, 0.0001 is bad.
    :param scaling: with `box-cox` a model is a little better, and fails where a measurement is not above zero.
    """
    platform = serving.platform
    return platform.succeed(platform.start(TRAINING, {"strength": strength, "scaling": scaling}))


def measurements(**wrong: float) -> dict[str, Any]:
    """A request with one row, as callers send it.

    :param wrong: columns that are told to be something else.
    """
    row = load_wine(as_frame=True).data.iloc[0].to_dict() | wrong
    inputs = [{"name": name, "datatype": "FP64", "shape": [1, 1], "data": [value]} for name, value in row.items()]
    return {"parameters": {"content_type": "pd"}, "inputs": inputs}
