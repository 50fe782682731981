"""A model rolled out on Seldon Core v1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlplatform.operators.seldon_task import SeldonTaskOperator, as_json
from airflow_mlplatform.specs.arguments import read_argument
from airflow_mlplatform.specs.deployment import Rollout, Serving

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SeldonDeployOperator"]


class SeldonDeployOperator(SeldonTaskOperator):
    """Bring a model into service by steps, and take it back if it does not do well.

    One SeldonDeployment by server-side apply. Between the steps the analysis must hold; where it does not, or servers
    do not come up, exactly what served before is put back, and the task fails with the reason. How far it is stands in
    the resource's annotations: a retry, another triggerer or a cleared task goes on from there and repeats no step. If
    nothing differs from what serves, nothing is done.

    :param serving: the model server: a ``Serving``, or a mapping of its fields. Templated.
    :param model: the verdict of the promotion gate (``gate.output``), ``{"name": "wine", "version": 3}`` or
        ``{"name": "wine", "alias": "challenger"}``, ``models:/wine/3``, ``runs:/…/model``, or the URI of a folder.
        Templated.
    :param rollout: how traffic moves: a ``Rollout``, or a mapping of its fields; all at once if left out.
    :param resumes: the task of the same DAG that began the rollout and ended at its pause; ``answer`` says how it
        goes on.
    :param answer: output of the approval that followed the pause. Templated.
    :param mlflow_conn_id: connection of MLflow; that of the ``[mlplatform]`` section if left out.
    :param prometheus_conn_id: connection of Prometheus; likewise.
    :param kubernetes_conn_id: connection of Kubernetes; likewise.
    :param only_if: if this renders to nothing, ``False`` or ``no``, the task is skipped. Templated.

    Its XCom: ``endpoint_url``, ``model``, ``version``, ``former_version``, ``strategy``, ``steps`` and ``result``:
    ``done``, ``unchanged``, ``paused`` or ``staying`` (an A/B test without a winner). A candidate that loses its A/B
    test skips the task, and so what follows.
    """

    trigger_path: ClassVar[str] = "airflow_mlplatform.triggers.seldon_deploy.SeldonDeployTrigger"
    template_fields: Sequence[str] = ("serving", "model", "answer", "only_if")
    template_fields_renderers: ClassVar = {"serving": "json", "model": "json"}

    def __init__(
        self,
        *,
        serving: Serving | Mapping[str, Any],
        model: Any,
        rollout: Rollout | Mapping[str, Any] | None = None,
        resumes: str = "",
        answer: Any = None,
        mlflow_conn_id: str = "",
        prometheus_conn_id: str = "",
        kubernetes_conn_id: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.serving = as_json(Serving, serving)
        self.rollout = as_json(Rollout, rollout)
        read_argument(Rollout, "rollout", self.rollout)
        self.model = model
        self.resumes = resumes
        self.answer = answer
        self.mlflow_conn_id = mlflow_conn_id
        self.prometheus_conn_id = prometheus_conn_id
        self.kubernetes_conn_id = kubernetes_conn_id
        self.start_in_triggerer()

    def arguments(self) -> dict[str, Any]:
        """Return the trigger's arguments but ``origin``."""
        plan = {
            "rollout": self.rollout,
            "resumes": self.resumes,
            "mlflow_conn_id": self.mlflow_conn_id,
            "prometheus_conn_id": self.prometheus_conn_id,
            "kubernetes_conn_id": self.kubernetes_conn_id,
            "by_worker": bool(self.outlets),
        }
        return {
            "serving": self.serving,
            "model": self.model,
            "answer": self.answer,
            "plan": plan,
            "only_if": self.only_if,
        }
