"""A candidate answers its own input example in the very servers that will serve it, before any traffic moves."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlplatform.links import ModelVersionLink
from airflow_mlplatform.operators.seldon_task import SeldonTaskOperator, as_json
from airflow_mlplatform.specs.deployment import Serving

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SeldonPreflightOperator"]


class SeldonPreflightOperator(SeldonTaskOperator):
    """Serve a model version by Seldon for a moment, send it its own input example, and check the answer.

    A SeldonDeployment of its own, with one server of the image, protocol, secrets and resources that the spec names, is
    made, waited for, asked and removed; nothing routes traffic to it. What is wrong is named before anything that
    serves is touched: another Python or a missing package in the image, no model at its place, too little memory, an
    answer that is not what the signature says. The triggerer does it, which must run in the cluster.

    :param model: the verdict of the promotion gate (``gate.output``), or a registered version as
        :class:`~airflow_mlplatform.operators.seldon_deploy.SeldonDeployOperator` takes it. Templated.
    :param serving: the model server: a ``Serving``, or a mapping of its fields. Templated.
    :param mlflow_conn_id: connection of MLflow, whose server hands out the model's example; that of the
        ``[mlplatform]`` section if left out.
    :param kubernetes_conn_id: connection of Kubernetes; likewise.
    :param answer_timeout: how long the answer may take (default 1 minute); how long the server may take to come up is
        ``serving.ready_timeout``.
    :param only_if: if this renders to nothing, ``False`` or ``no``, the task is skipped. Templated.

    Its XCom: ``model``, ``version``, ``predictions`` (how many) and ``seconds`` (how long the answer took).
    """

    trigger_path: ClassVar[str] = "airflow_mlplatform.triggers.preflight.PreflightTrigger"
    operator_extra_links = (ModelVersionLink(),)
    template_fields: Sequence[str] = ("serving", "model", "only_if")
    template_fields_renderers: ClassVar = {"serving": "json", "model": "json"}
    ui_color = "#e8f4ea"

    def __init__(
        self,
        *,
        model: Any,
        serving: Serving | Mapping[str, Any],
        mlflow_conn_id: str = "",
        kubernetes_conn_id: str = "",
        answer_timeout: timedelta = timedelta(minutes=1),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.serving = as_json(Serving, serving)
        self.mlflow_conn_id = mlflow_conn_id
        self.kubernetes_conn_id = kubernetes_conn_id
        self.answer_timeout = answer_timeout
        self.start_in_triggerer()

    def arguments(self) -> dict[str, Any]:
        """Return the trigger's arguments but ``origin``."""
        plan = {
            "answer_seconds": self.answer_timeout.total_seconds(),
            "mlflow_conn_id": self.mlflow_conn_id,
            "kubernetes_conn_id": self.kubernetes_conn_id,
            "by_worker": bool(self.outlets),
        }
        return {"serving": self.serving, "model": self.model, "plan": plan, "only_if": self.only_if}
