"""Counts the orders of each customer with Faust: changes of the table of orders in, the new count out.

Faust keeps the counts in a table, whose changelog it makes in Kafka. It counts at least once: what an instance has
counted but not yet committed when it is killed, another one counts again.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterable

import faust

PARTITIONS = int(os.environ["PARTITIONS"])

app = faust.App(
    "counts",
    broker=[f"kafka://{broker}" for broker in os.environ["KAFKA_BROKERS"].split(",")],
    topic_partitions=PARTITIONS,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
)
RAW = {"key_type": bytes, "key_serializer": "raw", "value_type": bytes, "value_serializer": "raw"}
orders = app.topic(os.environ["ORDERS_TOPIC"], **RAW)
totals = app.topic(os.environ["COUNTS_TOPIC"], **RAW)
counts = app.Table("counts", default=int, partitions=PARTITIONS)


@app.agent(orders)
async def count(changes: AsyncIterable[bytes]) -> None:
    """Count new orders and withdraw deleted ones; an order that changes stays one."""
    async for key, change in changes.items():
        step = {"c": 1, "r": 1, "d": -1}.get(json.loads(change)["op"], 0)
        if step:
            counts[key] += step
            await totals.send(key=key, value=json.dumps({"orders": counts[key]}).encode())
