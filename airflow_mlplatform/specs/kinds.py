"""The kinds of spec, by the word that a file uses for them."""

from __future__ import annotations

from airflow_mlplatform.specs.deployment import Deployment
from airflow_mlplatform.specs.etl import Etl
from airflow_mlplatform.specs.streaming import Streaming
from airflow_mlplatform.specs.training import Training

__all__ = ["KINDS", "Spec"]

Spec = Etl | Streaming | Training | Deployment
KINDS: dict[str, type[Etl] | type[Streaming] | type[Training] | type[Deployment]] = {
    "etl": Etl,
    "streaming": Streaming,
    "training": Training,
    "deployment": Deployment,
}
