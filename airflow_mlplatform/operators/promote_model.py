"""Makes the candidate the champion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.links import ModelVersionLink
from airflow_mlplatform.metrics import PROMOTIONS
from airflow_mlplatform.training.provenance import Provenance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

__all__ = ["PromoteModelOperator"]


class PromoteModelOperator(BaseOperator):
    """Moves the champion's alias to the version that a verdict names, if the champion is still the one compared.

    The former champion gets the alias ``previous-<champion>``, to go back to it; the new one gets the tags
    ``mlplatform.promoted_at`` and ``mlplatform.promoted_by``. A retry finds what the first try did. If the champion
    is another by now the task fails, without retries, and nothing has moved: run the DAG again.

    Returns ``{name, version, model_uri, former}``.

    :param verdict: what :class:`~airflow_mlplatform.sensors.model_promotion.ModelPromotionSensor` returned.
    :param mlflow_conn_id: connection id; that of the ``[mlplatform]`` section if left out.
    """

    template_fields: Sequence[str] = ("verdict", "mlflow_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"verdict": "json"}
    operator_extra_links = (ModelVersionLink(),)
    ui_color = "#d9ead3"

    def __init__(self, *, verdict: Any, mlflow_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.verdict = verdict
        self.mlflow_conn_id = mlflow_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Promote, once however often it is tried."""
        from airflow_mlplatform.hooks.mlflow import MlflowHook
        from airflow_mlplatform.promotion.promote import promote
        from airflow_mlplatform.promotion.verdict import decode_verdict

        hook = MlflowHook(self.mlflow_conn_id)
        with failing_fast(), hook.client() as client:
            done = promote(client, decode_verdict(self.verdict), owner=Provenance.of(context, ()).name)
        version = done.version
        if done.moved:
            PROMOTIONS.add(model=version.name)
        context["ti"].xcom_push(key="model_version_url", value=hook.version_url(version))
        self.log.info("%s is the champion%s", version.uri, "" if done.moved else " already")
        return {"name": version.name, "version": version.version, "model_uri": version.uri, "former": done.former}
