"""What a Deployment remembers of its versions, in its annotations: so whoever comes after a crash knows it too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from airflow_mlplatform.runtime.app_deployment import MANAGED_BY

__all__ = ["Memory", "differs", "is_ours", "remember"]

Json = Mapping[str, Any]

PREFIX = "mlplatform.airflow"
GOOD, SINCE, FAILED = f"{PREFIX}/good", f"{PREFIX}/since", f"{PREFIX}/failed"
# The API server and the controller write these by themselves.
NOT_WISHED = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid")
OF_THE_CONTROLLER = "deployment.kubernetes.io/revision"


@dataclass(frozen=True)
class Memory:
    """What is known of a Deployment's versions.

    :param good: spec of the version that was well the last time, as we applied it; ``None`` before there was one.
    :param since: when the version that is there was applied.
    :param failed: ``{"by": attempt, "why": message}`` if that attempt's version was rolled back.
    """

    good: Json | None = None
    since: datetime | None = None
    failed: Json | None = None

    @classmethod
    def of(cls, deployment: Json | None) -> Memory:
        """Read it from a Deployment; what is not readable is not there."""
        notes = ((deployment or {}).get("metadata") or {}).get("annotations") or {}
        since = notes.get(SINCE)
        return cls(_read(notes.get(GOOD)), datetime.fromisoformat(since) if since else None, _read(notes.get(FAILED)))

    def fresh(self) -> Memory:
        """Return what is known once another version is applied, now."""
        return replace(self, since=datetime.now(UTC), failed=None)

    @property
    def annotations(self) -> dict[str, str]:
        """It, as annotations."""
        since = self.since.isoformat(timespec="seconds") if self.since else None
        found = {GOOD: _write(self.good), SINCE: since, FAILED: _write(self.failed)}
        return {name: value for name, value in found.items() if value is not None}


def remember(manifest: Json, memory: Memory) -> dict[str, Any]:
    """Return a manifest with what is to be known beside it."""
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": memory.annotations}}


def is_ours(deployment: Json) -> bool:
    """Whether this package made a Deployment."""
    return MANAGED_BY.items() <= (deployment["metadata"].get("labels") or {}).items()


def differs(there: Json, wished: Json) -> bool:
    """Whether a Deployment is another than the one that a dry run says it would be."""
    return _essence(there) != _essence(wished)


def _essence(deployment: Json) -> dict[str, Any]:
    metadata = {key: value for key, value in deployment["metadata"].items() if key not in NOT_WISHED}
    notes = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != OF_THE_CONTROLLER}
    return {"metadata": {**metadata, "annotations": notes}, "spec": deployment["spec"]}


def _read(text: str | None) -> Json | None:
    return json.loads(text) if text else None


def _write(value: Json | None) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, separators=(",", ":"))
