"""What was published of an asset, and when, where a triggerer can read it.

Asset events tell workers which data started a DAG run. Airflow 3.3 does not hand them to triggers, but it keeps a store
of values an asset, which both can reach: loads write their facts there too.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowRuntimeError

if TYPE_CHECKING:
    import logging

    from airflow.sdk import Context

__all__ = ["note", "published"]

KEY = "mlplatform.loads"
KEPT = 50


def note(context: Context, asset: Asset, facts: dict[str, Any], log: logging.Logger | Any) -> None:
    """Note what a task published of one of its outlets; the task succeeds even if Airflow cannot keep the note."""
    stores: Any = context.get("asset_state_store")
    if stores is None:
        return
    try:
        entries = [entry for entry in stores[asset].get(KEY, []) if entry["run"] != context["run_id"]]
        entry = {"run": context["run_id"], "at": datetime.now(UTC).isoformat(), "facts": facts}
        stores[asset].set(KEY, [*entries, entry][-KEPT:])
    except AirflowRuntimeError as error:
        log.warning("Airflow did not keep the note of what was published (%s); trainings look it up by a worker", error)


async def published(asset: Asset, before: datetime) -> dict[str, Any] | None:
    """Return the facts of the newest load of an asset that was published by then; ``None`` if none is known.

    :param before: when the DAG run came to be: what is newer did not start it.
    """
    from airflow.sdk.execution_time.context import AssetStateStoreAccessor

    store = AssetStateStoreAccessor(name=asset.name)
    entries: Any = await asyncio.to_thread(store.get, KEY, [])  # Airflow 3.3.0 has no asynchronous way
    known = [entry for entry in entries if datetime.fromisoformat(entry["at"]) <= before]
    return known[-1]["facts"] if known else None
