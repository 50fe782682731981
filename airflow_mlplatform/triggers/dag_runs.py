"""What a trigger may ask Airflow about other runs of DAGs."""

from __future__ import annotations

from asgiref.sync import sync_to_async

__all__ = ["goes_on"]

GOING = ["queued", "running"]


async def goes_on(dag_id: str, run_id: str) -> bool:
    """Whether a DAG run has not ended; one that is not there has."""
    # Importing it takes as long as all else here, and most triggers never ask.
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    count = sync_to_async(RuntimeTaskInstance.get_dr_count)
    return await count(dag_id=dag_id, run_ids=[run_id], states=GOING) > 0
