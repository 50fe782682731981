"""A streaming application in a Deployment of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from airflow.sdk import BaseOperator
from airflow.triggers.base import StartTriggerArgs

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.hooks.kafka import KafkaHook
from airflow_mlplatform.runtime.pod_manifest import env_vars
from airflow_mlplatform.specs.arguments import read_argument
from airflow_mlplatform.specs.common import Defaults
from airflow_mlplatform.specs.streaming import App
from airflow_mlplatform.training.provenance import Provenance
from airflow_mlplatform.triggers.starting import NeedsWorker, needs_a_worker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

__all__ = ["StreamAppOperator"]

TRIGGER = "airflow_mlplatform.triggers.stream_app.StreamAppTrigger"


class StreamAppOperator(BaseOperator):
    """Bring a streaming application into a state, and wait until it is well there.

    It runs in a Deployment, made by server-side apply; nothing is sent if nothing differs. A version is well when all
    its pods are ready, none of the former version is left, and its consumer group is stable and catches up. If that
    does not happen in time, or cannot, the former version is put back and the end of the log is in the error.

    The triggerer does all of it: no worker takes part. What a dead triggerer or an earlier try left is continued.

    :param name: name of the application; its Deployment's, shortened if Kubernetes wants that.
    :param app: image, code, entrypoint and so on: an ``App``, or a mapping of its fields. Templated.
    :param state: ``running``, ``paused`` (without pods) or ``absent``.
    :param pod: service account, node selector, tolerations and labels; image, resources and environment variables
        where the application names none.
    :param kafka_conn_id: Airflow connection (type kafka) of its consumer group.

    Its XCom: ``deployment``, ``done`` (``created``, ``updated``, ``unchanged``, ``removed``), ``commit``, ``replicas``.
    """

    template_fields: Sequence[str] = ("app",)
    template_fields_renderers: ClassVar = {"app": "json"}
    ui_color = "#e8e4f3"

    def __init__(
        self,
        *,
        name: str,
        app: App | Mapping[str, Any],
        state: Literal["running", "paused", "absent"] = "running",
        pod: Defaults | Mapping[str, Any] | None = None,
        kafka_conn_id: str = KafkaHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.app = app.model_dump(mode="json", exclude_defaults=True) if isinstance(app, App) else dict(app)
        self.state = state
        self.pod = pod if isinstance(pod, Defaults) else Defaults.model_validate(pod or {})
        self.kafka_conn_id = kafka_conn_id
        self._check()
        self._start_in_triggerer()

    def _check(self) -> None:
        if needs_a_worker(self.app):
            return
        try:
            app = read_argument(App, "app", self.app)
            env_vars(app.env, "app.env")
            if not (app.image or self.pod.image):
                raise ConfigurationError("app: no image is named; add image to app or to pod")
        except ConfigurationError as error:
            raise ConfigurationError(f"task {self.task_id}: {error}") from None

    def _start_in_triggerer(self) -> None:
        if needs_a_worker(self.app):
            return
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=TRIGGER,
            trigger_kwargs={"app": self.app, "plan": self._plan(), "origin": None},
            next_method="execute_complete",
            timeout=self.execution_timeout,
        )

    def _plan(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "state": self.state,
            "pod": self.pod.model_dump(mode="json", exclude_defaults=True),
            "kafka_conn_id": self.kafka_conn_id,
            "by_worker": bool(self.outlets),
        }

    def execute(self, context: Context) -> NoReturn:
        """Let the triggerer do it, where the task could not start there by itself."""
        from airflow_mlplatform.triggers.stream_app import StreamAppTrigger

        self.defer(
            trigger=StreamAppTrigger(self.app, self._plan(), Provenance.of(context).to_json()),
            method_name="execute_complete",
            timeout=self.execution_timeout,
        )

    def execute_complete(self, context: Context, event: object) -> dict[str, Any]:
        """End the task as the trigger's event says, or take it over."""
        from airflow_mlplatform.triggers.task import TaskEnding

        with failing_fast():
            try:
                return dict(TaskEnding.decode(event).outcome())
            except NeedsWorker as reason:
                self.log.info("%s", reason)
                self.execute(context)
