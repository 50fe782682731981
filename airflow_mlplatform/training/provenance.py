"""Where a result comes from: the task, its DAG run, and the data assets that it read; written as tags in MLflow."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow.sdk import Context

__all__ = [
    "CODE_VERSION",
    "FINGERPRINT",
    "KEY",
    "PREFIX",
    "PRIVATE_TAGS",
    "REASON",
    "DataAsset",
    "Provenance",
    "data_assets",
]

PREFIX = "mlplatform."
KEY = f"{PREFIX}key"
FINGERPRINT = f"{PREFIX}fingerprint"
CODE_VERSION = f"{PREFIX}code_version"
REASON = f"{PREFIX}reason"
# They serve the operator, not the reader of a model version.
PRIVATE_TAGS = frozenset({KEY, FINGERPRINT, REASON})
DATA_TAGS = ("asset", "uri", "schema_hash")


@dataclass(frozen=True)
class DataAsset:
    """What an asset event told about the data.

    :param asset: URI of the asset.
    :param uri: where the data of that event really lies; empty if the event did not say.
    :param schema_hash: hash of its columns; empty if the event did not say.
    """

    asset: str
    uri: str = ""
    schema_hash: str = ""


@dataclass(frozen=True)
class Provenance:
    """One task of one DAG run.

    :param url: page of the task in Airflow.
    """

    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int
    try_number: int
    url: str
    assets: tuple[DataAsset, ...] = ()

    @classmethod
    def of(cls, context: Context, assets: Iterable[DataAsset] | None = None) -> Provenance:
        """Read it from the context of a task.

        :param assets: the data it reads; if left out, that too is looked up in the context.
        """
        task_instance: Any = context["ti"]
        return cls(
            dag_id=task_instance.dag_id,
            dag_run_id=task_instance.run_id,
            task_id=task_instance.task_id,
            map_index=-1 if task_instance.map_index is None else task_instance.map_index,
            try_number=task_instance.try_number,
            url=task_instance.log_url,
            assets=tuple(data_assets(context) if assets is None else assets),
        )

    def to_json(self) -> dict[str, Any]:
        """Write it for a trigger."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Provenance:
        """Read what :meth:`to_json` wrote."""
        return cls(**{**data, "assets": tuple(DataAsset(**asset) for asset in data["assets"])})

    @property
    def key(self) -> str:
        """The same for every try of this task, and for nothing else."""
        identity = [self.dag_id, self.dag_run_id, self.task_id, self.map_index]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]

    @property
    def name(self) -> str:
        """The same, as people read it: who moves an alias."""
        index = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"{self.dag_id}/{self.dag_run_id}/{self.task_id}{index}"

    def tags(self) -> dict[str, str]:
        """Return the tags that tell Airflow's side and the data."""
        airflow = {
            "dag_id": self.dag_id,
            "run_id": self.dag_run_id,
            "task_id": self.task_id,
            "map_index": str(self.map_index),
            "try": str(self.try_number),
            "url": self.url,
        }
        return {f"{PREFIX}airflow.{name}": value for name, value in airflow.items()} | self._data_tags()

    def _data_tags(self) -> dict[str, str]:
        lists = {name: [getattr(asset, name) for asset in self.assets] for name in DATA_TAGS}
        return {f"{PREFIX}data.{name}": ", ".join(values) for name, values in lists.items() if any(values)}


def data_assets(context: Context) -> Iterator[DataAsset]:
    """Yield the assets that a task reads: those that triggered its DAG run, then its inlets, each as last reported."""
    seen = set()
    for uri, event in _latest_events(context):
        asset = uri.rstrip("/")  # Airflow writes pond://wine as pond://wine/
        if asset not in seen:
            seen.add(asset)
            extra = (event.extra if event else None) or {}
            yield DataAsset(asset, str(extra.get("uri") or ""), str(extra.get("schema_hash") or ""))


def _latest_events(context: Context) -> Iterator[tuple[str, Any]]:
    for asset, events in (context.get("triggering_asset_events") or {}).items():
        uri = getattr(asset, "uri", None)
        if uri and events:
            yield uri, max(events, key=lambda event: event.timestamp)
    inlet_events: Any = context.get("inlet_events") or {}
    for inlet in inlet_events:
        uri = getattr(inlet, "uri", None)
        if uri:
            latest = list(inlet_events[inlet].ascending(False).limit(1))
            yield uri, latest[0] if latest else None
