"""What the operators for SeldonDeployments have in common: they start in the triggerer, and end by its event."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from airflow.sdk import BaseOperator
from airflow.sdk.definitions.xcom_arg import PlainXComArg
from airflow.sdk.exceptions import AirflowSkipException
from airflow.triggers.base import StartTriggerArgs

from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.links import EndpointLink, GrafanaLink, ModelVersionLink
from airflow_mlplatform.specs.arguments import read_argument
from airflow_mlplatform.specs.base import Model
from airflow_mlplatform.training.provenance import Provenance
from airflow_mlplatform.triggers.starting import FROM_TASK, NeedsWorker, needs_a_worker, templated

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow.sdk import BaseOperatorLink, Context

    from airflow_mlplatform.triggers.seldon_task import SeldonTask

__all__ = ["SeldonTaskOperator", "as_json"]

M = TypeVar("M", bound=Model)
RETURN_VALUE = "return_value"


class SeldonTaskOperator(BaseOperator):
    """Base of operators that change a SeldonDeployment. The triggerer does all of it, no worker takes part.

    :cvar trigger_path: class of the trigger.
    :param only_if: if this renders to nothing, ``False`` or ``no``, the task is skipped. Templated.
    """

    trigger_path: ClassVar[str]
    template_fields: Sequence[str] = ("only_if",)
    operator_extra_links: Collection[BaseOperatorLink] = (EndpointLink(), GrafanaLink(), ModelVersionLink())
    ui_color = "#d4ecd9"

    def __init__(self, *, only_if: str = "yes", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.only_if = only_if

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Return the trigger's arguments but ``origin``."""

    def start_in_triggerer(self) -> None:
        """Start without a worker, if nothing needs one; call it at the end of ``__init__``."""
        arguments = {key: without_worker(value) for key, value in self.arguments().items()}
        if needs_a_worker(arguments):
            return
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=self.trigger_path,
            trigger_kwargs={**arguments, "origin": None},
            next_method="execute_complete",
            timeout=self.execution_timeout,
        )

    def execute(self, context: Context) -> NoReturn:
        """Let the triggerer do it, where the task could not start there by itself."""
        origin = Provenance.of(context).to_json()
        self.defer(
            trigger=self._trigger()(**self.arguments(), origin=origin),
            method_name="execute_complete",
            timeout=self.execution_timeout,
        )

    def execute_complete(self, context: Context, event: object) -> dict[str, Any]:
        """End the task as the trigger's event says, or take it over."""
        from airflow_mlplatform.triggers.task import TaskEnding

        with failing_fast():
            try:
                result = dict(TaskEnding.decode(event).outcome())
            except NeedsWorker as reason:
                self.log.info("%s", reason)
                self.execute(context)
        if result.get("result") == "kept":
            raise AirflowSkipException("the candidate did not win its A/B test, and what served before serves on")
        return result

    def _trigger(self) -> type[SeldonTask]:
        from importlib import import_module

        module, _, name = self.trigger_path.rpartition(".")
        found: type[SeldonTask] = getattr(import_module(module), name)
        return found


def without_worker(value: Any) -> Any:
    """Return an argument that the triggerer can look up by itself, where it is the whole result of another task."""
    if isinstance(value, PlainXComArg) and value.key == RETURN_VALUE and not value.operator.is_mapped:
        return {FROM_TASK: value.operator.task_id}
    return value


def as_json(kind: type[M], value: M | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return an argument as JSON, with the keys that were given and no others.

    :raises ConfigurationError: if it is wrong already.
    """
    if isinstance(value, Model):
        return value.model_dump(mode="json", exclude_unset=True)
    found = dict(value or {})
    if not (templated(found) or needs_a_worker(found)):
        read_argument(kind, kind.__name__.lower(), found)
    return found
