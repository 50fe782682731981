"""The pure part of the example application of dag_specs/clicks."""

from __future__ import annotations

import importlib
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MODULES = ("features", "messages")
APP = Path(__file__).parents[2] / "dag_specs" / "clicks" / "app"


@pytest.fixture
def features(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Its modules are no package: it is started in its folder."""
    monkeypatch.syspath_prepend(str(APP))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("features")
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def messages(features: ModuleType) -> ModuleType:
    return importlib.import_module("messages")


def change(op: str, before: Any, after: Any, at: int = 0) -> dict[str, Any]:
    return {"op": op, "before": before, "after": after, "ts_ms": at}


def test_any_history_of_orders_ends_in_what_a_query_would_say(features: ModuleType) -> None:
    chance = random.Random(1)
    orders: dict[int, dict[str, int]] = {}
    known = features.Features(7)
    for number in range(500):
        if orders and chance.random() < 0.5:
            old = orders.pop(chance.choice(list(orders)))
            new = None if chance.random() < 0.5 else {**old, "amount_cents": chance.randrange(1000)}
        else:
            old, new = None, {"id": number, "customer_id": 7, "amount_cents": chance.randrange(1000)}
        if new:
            orders[new["id"]] = new
        event = change("any", old, new, number)
        assert features.customer_of(event) == 7
        known = features.updated(known, event)
    total = sum(order["amount_cents"] for order in orders.values())
    assert known.row() == {
        "customer_id": 7, "orders": len(orders), "total_cents": total, "average_cents": total // len(orders),
        "changed_at": 499,
    }  # fmt: skip


def test_nobody_left_is_no_division_by_zero(features: ModuleType) -> None:
    assert features.Features(1).average_cents == 0


def test_an_order_that_changes_its_customer_is_refused(features: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"changed its customer \(\[1, 2\]\)"):
        features.customer_of(change("u", {"customer_id": 1}, {"customer_id": 2}))


def test_messages_can_be_read_back_and_tell_their_schema(features: ModuleType, messages: ModuleType) -> None:
    known = features.Features(3, 2, 500, 9)
    key, value = messages.message_of(known)
    assert messages.features_of(value) == known
    told = json.loads(value)
    assert {field["field"] for field in told["schema"]["fields"]} == told["payload"].keys()
    assert json.loads(key)["payload"] == {"customer_id": 3}


def test_events_come_with_schema_without_or_as_tombstones(messages: ModuleType) -> None:
    event = change("c", None, {"customer_id": 1})
    assert messages.change_of(json.dumps(event).encode()) == event
    assert messages.change_of(json.dumps({"schema": {}, "payload": event}).encode()) == event
    assert messages.change_of(None) is None
