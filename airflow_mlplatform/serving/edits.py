"""Who else changed what a rollout has applied, read from the resource and its managed fields.

Server-side apply notes for each field who set it last: https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_mlplatform.clients.deployments import FIELD_MANAGER

__all__ = ["differences", "edited", "owned"]

Json = Mapping[str, Any]

SHOWN = 3


def edited(live: Json, applied: Json) -> str:
    """Tell who changed what of the spec that was applied; empty if nobody did.

    :param live: the resource as it is.
    :param applied: what was applied last.
    """
    changed = list(differences(live.get("spec") or {}, applied["spec"]))
    lost = sorted(set(applied["spec"]) - owned(live)) if _managed(live) else []
    if not (changed or lost):
        return ""
    what = "; ".join(changed[:SHOWN]) or ", ".join(f"spec.{key}" for key in lost)
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return f"{_who(live, lost or list(applied['spec']))} changed {what}{more}"


def owned(live: Json, *path: str) -> set[str]:
    """Return the fields that this package applied last, the outermost only.

    :param path: where; the spec if left out.
    """
    ours = [entry for entry in _managed(live) if entry.get("manager") == FIELD_MANAGER and _applies(entry)]
    return {field for entry in ours for field in _fields(entry, path or ("spec",))}


def differences(live: object, applied: object, where: str = "spec") -> Iterator[str]:
    """Yield where a value is not what was applied; what others added beside it is no difference."""
    if isinstance(applied, Mapping) and isinstance(live, Mapping):
        for key, wanted in applied.items():
            if key not in live and wanted in (None, "", 0, False, [], {}):
                continue  # Go's types leave out what is empty
            yield from differences(live.get(key), wanted, f"{where}.{key}")
    elif isinstance(applied, list) and isinstance(live, list) and len(applied) == len(live):
        for index, (there, wanted) in enumerate(zip(live, applied, strict=True)):
            yield from differences(there, wanted, f"{where}[{index}]")
    elif isinstance(applied, list) and isinstance(live, list):
        yield f"{where} has {len(live)} entries instead of {len(applied)}"
    elif live != applied:
        yield f"{where} from {_short(applied)} to {_short(live)}"


def _managed(live: Json) -> list[Json]:
    return list((live.get("metadata") or {}).get("managedFields") or ())


def _applies(entry: Json) -> bool:
    return entry.get("operation") == "Apply" and not entry.get("subresource")


def _fields(entry: Json, path: tuple[str, ...] = ("spec",)) -> set[str]:
    found: Json = entry.get("fieldsV1") or {}
    for part in path:
        found = found.get(f"f:{part}") or {}
    return {key.removeprefix("f:") for key in found if key.startswith("f:")}


def _who(live: Json, fields: list[str]) -> str:
    others = [
        entry
        for entry in _managed(live)
        if not (entry.get("manager") == FIELD_MANAGER and _applies(entry)) and _fields(entry) & set(fields)
    ]
    if not others:
        return "somebody"
    last = max(others, key=lambda entry: str(entry.get("time") or ""))
    at = f" at {last['time']}" if last.get("time") else ""
    return f"{last.get('manager') or 'somebody'}{at}"


def _short(value: object) -> str:
    text = repr(value) if value is not None else "nothing"
    return text if len(text) <= 80 else f"{text[:77]}..."
