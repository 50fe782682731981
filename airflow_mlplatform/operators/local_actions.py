"""What else is done with an endpoint of this machine: one step back, another number of servers, or none."""

from __future__ import annotations

from typing import ClassVar

from airflow_mlplatform.operators.seldon_actions import (
    SeldonRollbackOperator,
    SeldonScaleOperator,
    SeldonTeardownOperator,
)

__all__ = ["LocalRollbackOperator", "LocalScaleOperator", "LocalTeardownOperator"]

ACTIONS = "airflow_mlplatform.triggers.local_actions"


class LocalRollbackOperator(SeldonRollbackOperator):
    """Go one step back, as :class:`~airflow_mlplatform.operators.seldon_actions.SeldonRollbackOperator` does."""

    trigger_path: ClassVar[str] = f"{ACTIONS}.LocalRollbackTrigger"


class LocalScaleOperator(SeldonScaleOperator):
    """Give the servers another number, 1 at least; the next deployment brings back that of its spec."""

    trigger_path: ClassVar[str] = f"{ACTIONS}.LocalScaleTrigger"


class LocalTeardownOperator(SeldonTeardownOperator):
    """Serve an endpoint no longer. A rollout that is under way there stops and fails."""

    trigger_path: ClassVar[str] = f"{ACTIONS}.LocalTeardownTrigger"
