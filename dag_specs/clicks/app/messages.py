"""How features are written into their topic: JSON with its schema, which the JDBC sink makes a table of."""

from __future__ import annotations

import json
from typing import Any

from features import Features

__all__ = ["change_of", "features_of", "message_of"]


def _schema(*fields: str) -> dict[str, Any]:
    return {"type": "struct", "fields": [{"field": field, "type": "int64", "optional": False} for field in fields]}


KEY = _schema("customer_id")
VALUE = _schema(*Features(0).row())


def change_of(value: bytes | None) -> dict[str, Any] | None:
    """Read an event of Debezium, with its schema or without; ``None`` for a tombstone."""
    if value is None:
        return None
    event: dict[str, Any] = json.loads(value)
    return dict(event["payload"]) if "payload" in event else event


def message_of(features: Features) -> tuple[bytes, bytes]:
    """Return key and value of the message that tells features."""
    key = {"schema": KEY, "payload": {"customer_id": features.customer_id}}
    return json.dumps(key).encode(), json.dumps({"schema": VALUE, "payload": features.row()}).encode()


def features_of(value: bytes) -> Features:
    """Read what :func:`message_of` wrote."""
    return Features.from_row(json.loads(value)["payload"])
