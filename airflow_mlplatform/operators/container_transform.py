"""A transform in any image: it reads Parquet at ``$INPUT`` and writes Parquet at ``$OUTPUT``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.triggers.base import StartTriggerArgs

from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.operators.etl_stage import EtlStageOperator, kept, read
from airflow_mlplatform.runtime.pod_manifest import env_vars
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.common import Defaults
from airflow_mlplatform.specs.etl import ContainerTransform
from airflow_mlplatform.training.provenance import Provenance
from airflow_mlplatform.triggers.starting import NeedsWorker, needs_a_worker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

__all__ = ["ContainerTransformOperator"]

TRIGGER = "airflow_mlplatform.triggers.container_transform.ContainerTransformTrigger"


class ContainerTransformOperator(EtlStageOperator):
    """Run a container on staged data, in a pod of its own, and stage what it leaves behind.

    The image need know nothing of Airflow, S3 or this package. It finds one Parquet file at ``$INPUT`` and writes a
    Parquet file, or a folder of them, at ``$OUTPUT``. It has no credentials but those that its ``env`` names, and no
    token of the Kubernetes API. Exit code 78 says that no retry can help.

    The triggerer makes the pod and follows it; no worker takes part, unless the task is mapped or takes results of
    other tasks. Another triggerer goes on with the pod of a dead one; a retry has a pod of its own.

    :param transform: image, command and environment variables, as a model or the dict that a spec would hold.
        Templated.
    :param input: id of the task that staged the data.
    :param pod: resources of the container; service account, node selector, tolerations and labels of the pod; more
        environment variables (of which those from Airflow connections are left out).
    :param part: which part of listed files it works on, if it is mapped over parts; then ``input`` is such a task too.
    :param kwargs: ``split`` (see :class:`~airflow_mlplatform.operators.etl_stage.EtlStageOperator`) and what every
        operator takes.
    :raises UnsupportedHere: on the local runtime.
    :raises ConfigurationError: for a transform that cannot be right.
    """

    template_fields: Sequence[str] = ("transform", "part")
    template_fields_renderers: ClassVar[dict[str, str]] = {"transform": "json", "part": "json"}

    def __init__(
        self,
        *,
        transform: ContainerTransform | Mapping[str, Any],
        input: str,  # noqa: A002
        pod: Defaults | Mapping[str, Any] | None = None,
        part: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.transform = kept(transform)
        self.input = input
        self.pod = pod if isinstance(pod, Defaults) else Defaults.model_validate(pod or {})
        self.part = part
        self._demand_possible()
        if not needs_a_worker(self.transform):
            self.start_from_trigger = True
            self.start_trigger_args = StartTriggerArgs(
                trigger_cls=TRIGGER,
                trigger_kwargs={**self._arguments(), "attempt": "", "origin": None},
                next_method="execute_complete",
                timeout=self.execution_timeout,
            )

    def _demand_possible(self) -> None:
        if settings().runtime == "local":
            self.demand_runnable([{"container": self.transform}])
        container = read(ContainerTransform, self.transform, f"task {self.task_id}: transform")
        env_vars(container.env, f"task {self.task_id}: transform.env")

    def _arguments(self) -> dict[str, Any]:
        plan = {
            "input": self.input,
            "listing": self.split.get(self.input),
            "pod": self.pod.model_dump(mode="json", exclude_defaults=True),
            "timeout": self.execution_timeout.total_seconds() if self.execution_timeout else None,
            "by_worker": bool(self.outlets),
        }
        return {"transform": self.transform, "plan": plan, "part": self.part}

    def execute(self, context: Context) -> NoReturn:
        """Hand over to the triggerer, where the task could not start there by itself."""
        from airflow_mlplatform.triggers.container_transform import ContainerTransformTrigger

        self.name_part(context)
        origin = Provenance.of(context, ()).to_json()
        self.defer(
            trigger=ContainerTransformTrigger(**self._arguments(), attempt=str(context["ti"].id), origin=origin),
            method_name="execute_complete",
            timeout=self.execution_timeout,
        )

    def execute_complete(self, context: Context, event: object) -> dict[str, Any]:
        """End the task as the trigger's event says, or take it over.

        :returns: ``uri``, ``rows``, ``bytes`` and ``schema_hash`` of the staged file.
        """
        from airflow_mlplatform.triggers.task import TaskEnding

        with failing_fast():
            try:
                return dict(TaskEnding.decode(event).outcome())
            except NeedsWorker as reason:
                self.log.info("%s", reason)
                self.execute(context)
