"""When two objects of the cluster are the same for Seldon's operator."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.cluster.api_server import Object

__all__ = ["LAST_APPLIED", "mark_of", "marked", "timeless", "within"]

LAST_APPLIED = "seldon.io/last-applied"


def timeless(status: Object) -> Object:
    """A status without the times of its conditions, for which alone the operator writes nothing."""
    conditions = [{**one, "lastTransitionTime": ""} for one in status.get("conditions", [])]
    return {**status, "conditions": conditions}


def within(wanted: Any, found: Any) -> bool:
    """Whether all that is wanted is found; the API server adds defaults."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(within(value, found.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        same = isinstance(found, list) and len(found) == len(wanted)
        return same and all(within(*pair) for pair in zip(wanted, found, strict=True))
    return bool(wanted == found)


def mark_of(wanted: Object) -> str:
    """What tells one wish for a Deployment from another; the operator keeps the whole wish in an annotation."""
    told = {"spec": wanted["spec"], **{key: wanted["metadata"].get(key) for key in ("labels", "annotations")}}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def marked(wanted: Object, mark: str, found: Object | None = None) -> Object:
    """A wish with its mark.

    :param found: what it replaces.
    """
    head: dict[str, Any] = dict(wanted["metadata"])
    head["annotations"] = {**head.get("annotations", {}), LAST_APPLIED: mark}
    if found:
        head["resourceVersion"] = found["metadata"]["resourceVersion"]
    return {**wanted, "metadata": head, "spec": dict(wanted["spec"])}
