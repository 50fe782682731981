"""How a rollout ended whose resource is removed, and with it all that the resource says: kept in XCom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow.sdk.execution_time.xcom import XCom

from airflow_mlplatform.serving.state import Outcome
from airflow_mlplatform.triggers.task import leave

if TYPE_CHECKING:
    from airflow_mlplatform.training.provenance import Provenance

__all__ = ["KeptOutcome"]

KEY = "rollout_ended"


@dataclass(frozen=True)
class KeptOutcome:
    """The end of the rollout of one task.

    A triggerer that dies between the removal and the end of its task would find nothing, and begin anew.

    :param origin: the task.
    """

    origin: Provenance

    async def keep(self, outcome: Outcome) -> None:
        """Keep it."""
        await leave(self.origin, outcome.model_dump(mode="json"), KEY)

    async def find(self) -> Outcome | None:
        """Return what was kept; ``None`` if nothing was."""
        origin = self.origin
        found = await XCom.aget_one(
            key=KEY,
            dag_id=origin.dag_id,
            task_id=origin.task_id,
            run_id=origin.dag_run_id,
            map_index=origin.map_index,
        )
        return None if found is None else Outcome.model_validate(found)
