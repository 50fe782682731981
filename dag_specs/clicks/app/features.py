"""Per-customer features, kept up to date from changes of orders. Pure: no Kafka, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

__all__ = ["Features", "customer_of", "updated"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Features:
    """What is known of one customer.

    :param total_cents: sum of all orders.
    :param changed_at: when the database changed last, in milliseconds since 1970.
    """

    customer_id: int
    orders: int = 0
    total_cents: int = 0
    changed_at: int = 0

    @property
    def average_cents(self) -> int:
        """Mean of all orders, rounded down."""
        return self.total_cents // self.orders if self.orders else 0

    def with_order(self, order: Row | None, times: int) -> Features:
        """Return them with an order counted in (``times=1``) or out (``times=-1``)."""
        if order is None:
            return self
        return replace(
            self, orders=self.orders + times, total_cents=self.total_cents + times * int(order["amount_cents"])
        )

    def row(self) -> dict[str, int]:
        """Return them as a row of a table."""
        return {**asdict(self), "average_cents": self.average_cents}

    @classmethod
    def from_row(cls, row: Row) -> Features:
        """Read what :meth:`row` wrote."""
        return cls(row["customer_id"], row["orders"], row["total_cents"], row["changed_at"])


def customer_of(change: Row) -> int:
    """Return whose order changed.

    :param change: an event of Debezium: ``{"op": …, "before": …, "after": …, "ts_ms": …}``.
    :raises ValueError: if the order went from one customer to another, whose features another partition may hold.
    """
    owners = {row["customer_id"] for row in (change["before"], change["after"]) if row}
    if len(owners) != 1:
        raise ValueError(f"an order changed its customer ({sorted(owners)}), which this app does not count")
    return int(owners.pop())


def updated(features: Features, change: Row) -> Features:
    """Return the features after a change: an order that was inserted, updated, deleted or read by a snapshot."""
    counted = features.with_order(change["before"], -1).with_order(change["after"], +1)
    return replace(counted, changed_at=max(features.changed_at, int(change["ts_ms"])))
