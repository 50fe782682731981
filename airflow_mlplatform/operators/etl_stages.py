"""The stages of an ETL pipeline as tasks of their own, with Parquet files in the staging area between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.definitions.mappedoperator import MappedOperator

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.operators.etl_stage import EtlStageOperator, announce, kept, own_outlets, read
from airflow_mlplatform.specs.etl import Checks, Load, Source, Transform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_mlplatform.steps.workbench import Table, Workbench

__all__ = ["CheckOperator", "ExtractOperator", "ListFilesOperator", "LoadOperator", "TransformOperator"]


class ListFilesOperator(EtlStageOperator):
    """List the files of a source once, in parts of about the same size, for tasks that read a part each.

    ::

        files = {"files": {"uri": "s3://raw/*.csv", "split": 8}}
        parts = ListFilesOperator(task_id="list", source=files)
        extract = ExtractOperator.partial(task_id="extract", source=files, listing="list").expand(part=parts.output)
        load = LoadOperator(task_id="load", load={"uri": "pond://x"}, input="extract", split={"extract": "list"})
        extract >> load

    :param source: a source ``files`` with ``split``, at most how many parts (templated).
    :param kwargs: see :class:`~airflow_mlplatform.operators.etl_stage.EtlStageOperator`.
    """

    template_fields: Sequence[str] = ("source",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"source": "json"}

    def __init__(self, *, source: Source | Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = kept(source)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List the files.

        :returns: for each part ``part`` (its number), ``of``, ``listing``, ``files`` and ``bytes``.
        """
        from airflow_mlplatform.steps.file_list import list_files

        with self.bench(context) as bench:
            files = read(Source, self.source, "source").files
            if files is None or files.split is None:
                raise ConfigurationError("source: only files with split can be read in parts; add split: 8")
            listed = list_files(files, files.split, bench)
            self.staging(bench).put_list(self.task_id, listed)
            told = listed.told()
            self.log.info("%s files in %s parts", sum(part["files"] for part in told), len(told))
            return told


class ExtractOperator(EtlStageOperator):
    """Read one source into the staging area.

    :param source: what to read (templated): a model, or the dict that a spec would hold.
    :param part: which part of listed files this task reads: an item of what
        :class:`~airflow_mlplatform.operators.etl_stages.ListFilesOperator` returns. All of the source if left out.
    :param listing: id of the task that listed the files.
    :param kwargs: see :class:`~airflow_mlplatform.operators.etl_stage.EtlStageOperator`.
    """

    template_fields: Sequence[str] = ("source", "part")
    template_fields_renderers: ClassVar[dict[str, str]] = {"source": "json", "part": "json"}

    def __init__(
        self,
        *,
        source: Source | Mapping[str, Any],
        part: Mapping[str, Any] | None = None,
        listing: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = kept(source)
        self.part = part
        self.listing = listing

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the source, or the part of it.

        :returns: ``uri``, ``rows``, ``bytes`` and ``schema_hash`` of the staged file.
        """
        with self.bench(context) as bench:
            return self.stage(self._read(read(Source, self.source, "source"), bench), bench, context)

    def _read(self, source: Source, bench: Workbench) -> Table:
        from airflow_mlplatform.steps.extract import extract
        from airflow_mlplatform.steps.file_list import read_part

        part = self.own_part
        if source.files is None or source.files.split is None:
            return extract(source, bench)
        if part is None or self.listing is None:
            raise ConfigurationError(
                f"task {self.task_id}: the source has split, but the task is not mapped over parts of its files; "
                "expand it over a ListFilesOperator, or drop split"
            )
        files = self.staging(bench).get_list(self.listing)
        if files.id != part.listing:
            raise ConfigurationError(
                f"task {self.listing} has listed other files since; clear this run from there on, with all downstream "
                "tasks"
            )
        return read_part(source.files, files, part.part, bench)


class TransformOperator(EtlStageOperator):
    """Turn staged data into other staged data, by one or several steps that run as one.

    :param transforms: the steps, in order (templated).
    :param inputs: table name → id of the task that staged it. ``input`` is what the first step starts from; without an
        entry of that name it is the first one.
    :param part: which part of listed files this task works on, if it is mapped over parts; then the inputs are such
        tasks too.
    :param kwargs: see :class:`~airflow_mlplatform.operators.etl_stage.EtlStageOperator`.
    :raises UnsupportedHere: for a container step on the local runtime.
    """

    template_fields: Sequence[str] = ("transforms", "part")
    template_fields_renderers: ClassVar[dict[str, str]] = {"transforms": "json", "part": "json"}

    def __init__(
        self,
        *,
        transforms: Sequence[Transform | Mapping[str, Any]],
        inputs: Mapping[str, str],
        part: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.part = part
        self.transforms = [kept(step) for step in transforms]
        self.inputs = dict(inputs)
        self.demand_runnable(self.transforms)

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the steps.

        :returns: ``uri``, ``rows``, ``bytes`` and ``schema_hash`` of the staged file.
        """
        from airflow_mlplatform.steps.extract import name_table
        from airflow_mlplatform.steps.transform import transform

        with self.bench(context) as bench:
            steps = [read(Transform, step, f"transforms.{number}") for number, step in enumerate(self.transforms)]
            tables = {name: self.staged(task, bench, context) for name, task in self.inputs.items()}
            for name, table in tables.items():
                name_table(name, table, bench)
            start = tables.get("input") or next(iter(tables.values()))
            return self.stage(transform(steps, start, bench), bench, context)


class CheckOperator(EtlStageOperator):
    """Check staged data; fail with every check that does not hold.

    :param checks: what must be true (templated).
    :param input: id of the task that staged the data.
    :param kwargs: see :class:`~airflow_mlplatform.operators.etl_stage.EtlStageOperator`.
    """

    template_fields: Sequence[str] = ("checks",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"checks": "json"}

    def __init__(self, *, checks: Checks | Mapping[str, Any], input: str, **kwargs: Any) -> None:  # noqa: A002
        super().__init__(**kwargs)
        self.checks = kept(checks)
        self.input = input

    def execute(self, context: Context) -> None:
        """Check the data.

        :raises AirflowFailException: with a line for each check that does not hold.
        """
        from airflow_mlplatform.steps.check import check

        with self.bench(context) as bench:
            check(read(Checks, self.checks, "checks"), self.staged(self.input, bench, context), bench)


class LoadOperator(EtlStageOperator):
    """Publish staged data at its URI, all at once, tell so in the asset's event, and clear the staging area.

    :param load: where it goes (templated). Without ``outlets`` its asset becomes the task's outlet.
    :param input: id of the task that staged the data.
    :param kwargs: see :class:`~airflow_mlplatform.operators.etl_stage.EtlStageOperator`.
    """

    template_fields: Sequence[str] = ("load",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"load": "json"}

    def __init__(self, *, load: Load | Mapping[str, Any], input: str, **kwargs: Any) -> None:  # noqa: A002
        kwargs.setdefault("outlets", own_outlets(load))
        super().__init__(**kwargs)
        self.load = kept(load)
        self.input = input

    def execute(self, context: Context) -> dict[str, Any]:
        """Publish what is staged; if this run has published it already and the staging area is empty, say so again.

        :returns: ``uri``, ``rows``, ``bytes``, ``schema_hash`` and ``spec_uri`` of what was published.
        """
        from airflow_mlplatform.steps.staging import load_staged

        with self.bench(context) as bench:
            self._demand_progress()
            load = read(Load, self.load, "load")
            staging = self.staging(bench)
            listing = self.split.get(self.input)
            task = self.input if listing else self.staged_name(self.input, context)
            result = load_staged(load, staging, task, bench, listing)
            staging.remove([name for task in self.used_up() for name in {task, self.staged_name(task, context)}])
            self.log.info("%s rows (%s bytes) are at %s", result.rows, result.bytes, result.uri)
            return announce(result, load, self, context)

    def _demand_progress(self) -> None:
        # Without it the load would appear and the position stay: the next run would load the same records again.
        for task in self.get_flat_relatives(upstream=True):
            if isinstance(task, ExtractOperator) and task.source.get("kafka") and task.progress != self.progress:
                raise ConfigurationError(
                    f"task {self.task_id}: task {task.task_id} reads Kafka with progress={task.progress!r} and this "
                    f"one has {self.progress!r}; give both the same, the folder that all loads of the pipeline share"
                )

    def used_up(self) -> list[str]:
        """Ids of upstream stages whose data no other load needs."""
        stages = [task for task in self.get_flat_relatives(upstream=True) if _is(task, EtlStageOperator)]
        return [
            stage.task_id
            for stage in stages
            if not any(
                _is(task, LoadOperator) and task.task_id != self.task_id
                for task in stage.get_flat_relatives(upstream=False)
            )
        ]


def _is(task: Any, kind: type[BaseOperator]) -> bool:
    """Whether a task, mapped or not, is of a kind."""
    return issubclass(task.operator_class if isinstance(task, MappedOperator) else type(task), kind)
