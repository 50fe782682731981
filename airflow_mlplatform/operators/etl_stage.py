"""What the ETL operators share."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow.sdk import Asset, BaseOperator, Context
from pydantic import ValidationError

from airflow_mlplatform.asset_log import note
from airflow_mlplatform.exceptions import ConfigurationError, UnsupportedHere
from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.hooks.login import login_of
from airflow_mlplatform.metrics import LOAD_ROWS, LOAD_TIME
from airflow_mlplatform.operators.environment import kept_env, resolve_env, variables
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.base import Model
from airflow_mlplatform.specs.etl import Load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_mlplatform.specs.common import EnvValue
    from airflow_mlplatform.steps.engine import Engine
    from airflow_mlplatform.steps.file_list import Part
    from airflow_mlplatform.steps.publish import LoadResult
    from airflow_mlplatform.steps.staging import Staging
    from airflow_mlplatform.steps.workbench import Table, Workbench

__all__ = ["EtlStageOperator", "announce", "kept", "own_outlets", "read", "shared_folder"]

M = TypeVar("M", bound=Model)

log = logging.getLogger(__name__)


def kept(value: Model | Mapping[str, Any]) -> dict[str, Any]:
    """A spec node as the JSON-able dict that a template field holds."""
    if isinstance(value, Model):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return dict(value)


def read(model: type[M], value: Mapping[str, Any], where: str) -> M:
    """Make a model of a rendered template field.

    :param where: name of the operator's argument, for the message.
    :raises ConfigurationError: if it does not fit, with all that does not.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # Not the values: a template may have put a secret there.
        problems = "; ".join(
            f"{'.'.join(map(str, (where, *problem['loc'])))}: {problem['msg']}" for problem in error.errors()
        )
        raise ConfigurationError(f"{problems}; correct the arguments of the task") from None


def own_outlets(load: Model | Mapping[str, Any]) -> list[Asset]:
    """The asset of a load, as a task's outlets; none if it cannot be told before templates are rendered."""
    try:
        return [Asset(load.asset_uri if isinstance(load, Load) else Load.model_validate(load).asset_uri)]
    except ValidationError:
        return []


def shared_folder(load: Load | Mapping[str, Any]) -> str | None:
    """The folder that all loads of a pipeline share: the URI up to its first template."""
    try:
        return (load if isinstance(load, Load) else Load.model_validate(load)).fixed_uri or None
    except ValidationError:
        return None


def announce(result: LoadResult, load: Load, task: EtlStageOperator, context: Context) -> dict[str, Any]:
    """Tell in the events of the task's assets what was published; return it for XCom."""
    extra = {**result.to_dict(), "spec_uri": load.uri}
    for outlet in task.outlets:
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(extra)
            note(context, outlet, extra, log)
            labels = {"dag_id": task.dag_id, "asset": outlet.name}
            LOAD_TIME.set(time.time(), **labels)
            LOAD_ROWS.add(result.rows, **labels)
    return extra


class EtlStageOperator(BaseOperator):
    """Base of the ETL operators.

    :param memory: memory that the task may use (``512Mi``, ``2Gi``); the engine spills to disk beyond its share.
        ``None``: what the machine or container has.
    :param search_path: folder of the spec, in which Python transforms and relative paths are found.
    :param env: environment variables of the steps: text, or ``{"connection": id}`` (its password).
    :param split: of tasks that are mapped over parts of files, those that this one reads from: id of the task → id of
        the :class:`~airflow_mlplatform.operators.etl_stages.ListFilesOperator` that listed the files.
    :param progress: URI of a folder that all loads of the pipeline share: where its runs find how far those before
        have come in Kafka topics. Needed by all tasks of a pipeline with a source ``kafka``.
    """

    MAP_INDEX_TEMPLATE: ClassVar[str] = "{{ task.part_label }}"

    def __init__(
        self,
        *,
        memory: str | None = None,
        search_path: str | None = None,
        env: Mapping[str, EnvValue | Mapping[str, str]] | None = None,
        split: Mapping[str, str] | None = None,
        progress: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.split = dict(split or {})
        self.progress = progress
        self.memory = memory
        self.search_path = search_path
        self.env = kept_env(env)
        self._engine: Engine | None = None

    @contextmanager
    def bench(self, context: Context) -> Iterator[Workbench]:
        """Open what the steps work with; lasting mistakes inside the block fail the task without retries."""
        from airflow_mlplatform.steps.engine import Engine
        from airflow_mlplatform.steps.storage import Storage
        from airflow_mlplatform.steps.workbench import Run, Workbench

        self.name_part(context)
        with failing_fast(), variables(resolve_env(self.env)), Engine(self.memory) as engine:
            self._engine = engine
            storage = Storage(settings().pond, login_of, settings().s3_conn_id, self.search_path)
            run = Run(self.dag_id, context["run_id"])
            yield Workbench(engine, storage, run, self.search_path, self.progress or "")

    def staging(self, bench: Workbench) -> Staging:
        """Open the staging area of the run."""
        from airflow_mlplatform.steps.staging import Staging

        return Staging(settings().staging, bench)

    def stage(self, table: Table, bench: Workbench, context: Context) -> dict[str, Any]:
        """Put the task's result, or its part of it, into the staging area; return the facts about it."""
        staging, part = self.staging(bench), self.own_part
        if part is None:
            result = staging.put(self.staged_name(self.task_id, context), table)
        else:
            result = staging.put_part(self.task_id, part, table)
        self.log.info("Staged %s rows (%s bytes) at %s", result.rows, result.bytes, result.uri)
        return result.to_dict()

    def staged(self, task: str, bench: Workbench, context: Context) -> Table:
        """Return what a task of this run has staged: all of it, or the part that this task is for."""
        staging, part = self.staging(bench), self.own_part
        if part is not None:
            return staging.get_part(task, part)
        if task in self.split:
            return staging.get_parts(task, self.split[task]).table()
        return staging.get(self.staged_name(task, context))

    def name_part(self, context: Context) -> None:
        """Name the task in the UI after its part, if it is mapped over parts and has no name of its own."""
        if self.own_part is not None and context.get("map_index_template") is None:
            context["map_index_template"] = self.MAP_INDEX_TEMPLATE

    @property
    def own_part(self) -> Part | None:
        """The part that this task is for, if it is mapped over parts."""
        from airflow_mlplatform.steps.file_list import Part

        part = getattr(self, "part", None)
        return Part(**part) if part else None

    @property
    def part_label(self) -> str:
        """The part in a line, which names a mapped task in the UI."""
        return self.own_part.label if self.own_part else ""

    @staticmethod
    def staged_name(task: str, context: Context) -> str:
        """Name of a task's staged data; each instance of a mapped group has its own."""
        index = context["ti"].map_index
        return task if index is None or index < 0 else f"{task}[{index}]"

    def demand_runnable(self, transforms: Sequence[Mapping[str, Any]]) -> None:
        """Refuse transforms that this task cannot run, while the DAG is built.

        :raises UnsupportedHere: for a container.
        """
        container = next((step["container"] for step in transforms if step.get("container")), None)
        if container is None:
            return
        what = f"task {self.task_id}: a container transform (image {container.get('image')!r})"
        if settings().runtime == "local":
            raise UnsupportedHere(f"{what} needs Kubernetes and the runtime is local; use sql: or python:")
        raise UnsupportedHere(
            f"{what} is a pod of its own and cannot share this task with other stages; use stages: separate (in a "
            "hand-written DAG: ContainerTransformOperator)"
        )

    def on_kill(self) -> None:
        """Stop the query or transfer that runs now."""
        if self._engine is not None:
            self._engine.interrupt()
