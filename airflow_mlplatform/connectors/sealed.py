"""A change as JSON that may be stored: what is secret in it is sealed with a key that the caller has."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_mlplatform.connectors.change import Change
from airflow_mlplatform.connectors.config import Difference

__all__ = ["Seal"]


@dataclass(frozen=True)
class Seal:
    """Encrypts and decrypts a text; without functions, secrets are dropped instead and cannot be put back.

    :param close: encrypts.
    :param open: decrypts.
    """

    close: Callable[[str], str] | None = None
    open: Callable[[str], str] | None = None

    def to_json(self, change: Change) -> dict[str, Any]:
        """Return a change as JSON without readable secrets."""
        configs = {"config": change.config, "former_config": change.former_config}
        stored = {name: change.shown(config) if config is not None else None for name, config in configs.items()}
        secret = {
            name: {key: value for key, value in config.items() if (stored[name] or {})[key] != value}
            for name, config in configs.items()
            if config is not None
        }
        return {
            "kind": change.kind,
            "keys": change.told(),
            "state": change.state,
            "former_state": change.former_state,
            "declared": sorted(change.declared),
            **stored,
            "sealed": self.close(json.dumps(secret)) if self.close else "",
        }

    def from_json(self, data: Mapping[str, Any]) -> Change:
        """Read it back; secrets that were dropped are masks."""
        secret = json.loads(self.open(data["sealed"])) if self.open and data["sealed"] else {}
        config, former = (
            None if data[name] is None else {**data[name], **secret.get(name, {})}
            for name in ("config", "former_config")
        )
        keys = {key: Difference(one["from"], one["to"]) for key, one in data["keys"].items()}
        declared = frozenset(data["declared"])
        return Change(data["kind"], keys, config, data["state"], former, data["former_state"], declared)
