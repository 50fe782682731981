"""The wine specs, unchanged, on the cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cluster.platform import ClusterPlatform

__all__ = ["publish_wine"]

WINE = Path(__file__).parents[2] / "dag_specs" / "wine"
DAGS = ("wine-etl", "wine-training")


def publish_wine(platform: ClusterPlatform) -> None:
    """Upload the raw files and push ETL and training, whose first runs start by themselves, once a session."""
    for file in (WINE / "raw").glob("*.csv"):
        platform.services.upload(file, f"pond/raw/wine/{file.name}")
    files = [WINE / f"{name}.yaml" for name in ("defaults", "etl", "training")]
    files += [file for file in (WINE / "project").iterdir() if file.is_file()]
    platform.publish({f"wine/{file.relative_to(WINE)}": file.read_text("utf-8") for file in files}, *DAGS)
