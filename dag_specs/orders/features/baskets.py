"""Features of an order that are easier to say in Python than in SQL."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc


def run(orders: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Add the size of the basket, batch by batch, so that any number of orders fits into memory."""
    for batch in orders:
        large = pc.greater_equal(batch["quantity"], pa.scalar(10, batch["quantity"].type))
        yield batch.append_column("basket", pc.if_else(large, "large", "small"))
