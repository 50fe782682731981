"""Who manages which field of an object of Kubernetes, and how a field is given up.

Server-side apply and its conflicts: https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Owned", "conflicts", "release"]

Json = Mapping[str, Any]
Patch = list[dict[str, Any]]

MANAGER = re.compile(r'conflict with "(?P<name>[^"]+)"')
ENTRIES = "/metadata/managedFields"


@dataclass(frozen=True)
class Owned:
    """A field that somebody else manages.

    :param field: its path (``spec.predictors``).
    :param manager: who, as ``managedFields`` names them (``kubectl-edit``).
    """

    field: str
    manager: str


def conflicts(answer: Json) -> list[Owned]:
    """Return whose fields a refused apply would have changed.

    :param answer: the API server's ``Status``.
    """
    causes = (answer.get("details") or {}).get("causes") or ()
    return [
        Owned(str(cause.get("field")).removeprefix("."), found["name"])
        for cause in causes
        if cause.get("reason") == "FieldManagerConflict" and (found := MANAGER.search(str(cause.get("message"))))
    ]


def release(resource: Json, owned: Sequence[Owned]) -> Patch:
    """Return a JSON patch after which nobody manages these fields; values and all other ownership stay.

    :param resource: as the API server sends it.
    :param owned: the fields.
    """
    patch = [step for one in owned for step in _released(resource, one)]
    # A resource without entries passes for owned by `before-first-apply`, as long as there are none.
    head = {"manager": "nobody", "operation": "Update", "apiVersion": resource.get("apiVersion")}
    entry: dict[str, Any] = {**head, "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}
    return patch or [{"op": "add", "path": ENTRIES, "value": [entry]}]


def _released(resource: Json, owned: Owned) -> Iterator[dict[str, Any]]:
    for place, entry in enumerate((resource.get("metadata") or {}).get("managedFields") or ()):
        keys = _keys(entry.get("fieldsV1") or {}, f".{owned.field}")
        if entry["manager"] == owned.manager and keys is not None:
            pointer = "/".join(key.replace("~", "~0").replace("/", "~1") for key in keys)
            # The places may be others by then.
            yield {"op": "test", "path": f"{ENTRIES}/{place}/manager", "value": owned.manager}
            yield {"op": "remove", "path": f"{ENTRIES}/{place}/fieldsV1/{pointer}"}


def _keys(fields: Json, path: str) -> list[str] | None:
    """Return the keys that lead to a field; the names in a path may have dots themselves."""
    if not path:
        return []
    for key, below in fields.items():
        name = f".{key.removeprefix('f:')}"
        if path.startswith(name) and (rest := _keys(below, path.removeprefix(name))) is not None:
            return [key, *rest]
    return None
