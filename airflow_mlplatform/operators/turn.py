"""The first task of a DAG whose runs take turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import StartTriggerArgs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

__all__ = ["TurnOperator"]


class TurnOperator(BaseOperator):
    """Let one run of the DAG after the other pass, without a worker; tasks beside it need not wait.

    :param only_if: if this renders to nothing, ``False`` or ``no``, the task is skipped, and so what follows.
        Templated.
    """

    template_fields: Sequence[str] = ("only_if",)
    ui_color = "#eeeeee"

    def __init__(self, *, only_if: str = "yes", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.only_if = only_if
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="airflow_mlplatform.triggers.turn.TurnTrigger",
            trigger_kwargs={"only_if": only_if, "origin": None},
            next_method="execute_complete",
            timeout=None,
        )

    def execute(self, context: Context) -> None:
        """Wait in the triggerer, where the task could not start there by itself."""
        from airflow_mlplatform.training.provenance import Provenance
        from airflow_mlplatform.triggers.turn import TurnTrigger

        origin = Provenance.of(context).to_json()
        self.defer(trigger=TurnTrigger(self.only_if, origin), method_name="execute_complete")

    def execute_complete(self, context: Context, event: object) -> None:
        """Take over what the triggerer could not do.

        :raises AirflowFailException: if its event is not understood.
        """
        if not (isinstance(event, dict) and "over" in event):
            raise AirflowFailException(
                f"the event {event!r:.200} is none of TurnTrigger; let workers and triggerer run the same version of "
                "airflow-mlplatform, then clear the task"
            )
        self.log.info("%s", event["over"])
        self.execute(context)
