"""What else is done with a served model: back to the former champion, another number of servers, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlplatform.operators.seldon_task import SeldonTaskOperator, as_json
from airflow_mlplatform.specs.deployment import ModelRef, Serving

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SeldonRollbackOperator", "SeldonScaleOperator", "SeldonTeardownOperator"]

ACTIONS = "airflow_mlplatform.triggers.seldon_actions"


class SeldonActionOperator(SeldonTaskOperator):
    """Base of them.

    :param serving: the model server: a ``Serving``, or a mapping of its fields. Templated.
    :param mlflow_conn_id: connection of MLflow; that of the ``[mlplatform]`` section if left out.
    :param kubernetes_conn_id: connection of Kubernetes; likewise.
    :param only_if: if this renders to nothing, ``False`` or ``no``, the task is skipped. Templated.
    """

    template_fields: Sequence[str] = ("serving", "only_if")

    def __init__(
        self,
        *,
        serving: Serving | Mapping[str, Any],
        mlflow_conn_id: str = "",
        kubernetes_conn_id: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.serving = as_json(Serving, serving)
        self.mlflow_conn_id = mlflow_conn_id
        self.kubernetes_conn_id = kubernetes_conn_id

    def arguments(self) -> dict[str, Any]:
        """Return the trigger's arguments but ``origin``."""
        plan = {
            "mlflow_conn_id": self.mlflow_conn_id,
            "kubernetes_conn_id": self.kubernetes_conn_id,
            "by_worker": bool(self.outlets),
        }
        return {"serving": self.serving, "plan": plan, "only_if": self.only_if}


class SeldonRollbackOperator(SeldonActionOperator):
    """Go one step back.

    A rollout that is under way there ends: what served before is put back, no alias moves, and the task of that rollout
    fails saying so. An A/B test that stays ends the same way. If there is neither, the version with the alias
    ``previous-<champion>`` is served all at once, and then becomes the champion again; a second rollback is refused.

    :param model: the registered model and its aliases: a ``ModelRef``, or a mapping of its fields. Templated.
    """

    trigger_path: ClassVar[str] = f"{ACTIONS}.SeldonRollbackTrigger"
    template_fields: Sequence[str] = ("serving", "model", "only_if")

    def __init__(self, *, model: ModelRef | Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = as_json(ModelRef, model)
        self.start_in_triggerer()

    def arguments(self) -> dict[str, Any]:
        """Return the trigger's arguments but ``origin``."""
        return {**super().arguments(), "model": self.model}


class SeldonScaleOperator(SeldonActionOperator):
    """Give the servers another number; the next deployment brings back that of its spec.

    It waits for, or is refused by, a rollout that is under way, like a deployment.

    :param replicas: servers of each predictor. Templated.
    """

    trigger_path: ClassVar[str] = f"{ACTIONS}.SeldonScaleTrigger"
    template_fields: Sequence[str] = ("serving", "replicas", "only_if")

    def __init__(self, *, replicas: int | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.replicas = replicas
        self.start_in_triggerer()

    def arguments(self) -> dict[str, Any]:
        """Return the trigger's arguments but ``origin``."""
        return {**super().arguments(), "replicas": self.replicas}


class SeldonTeardownOperator(SeldonActionOperator):
    """Remove a SeldonDeployment, and wait until its pods have gone. A rollout that is under way there stops and fails.

    No alias moves: the next deployment begins anew.
    """

    trigger_path: ClassVar[str] = f"{ACTIONS}.SeldonTeardownTrigger"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start_in_triggerer()
