"""The stages of an ETL pipeline as tasks of their own, with Parquet files in the staging area between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlplatform.operators.etl_stage import EtlStageOperator, announce, kept, own_outlets, read
from airflow_mlplatform.specs.etl import Checks, Load, Source, Transform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

__all__ = ["CheckOperator", "ExtractOperator", "LoadOperator", "TransformOperator"]


class ExtractOperator(EtlStageOperator):
    """Read one source into the staging area.

    :param source: what to read (templated): a model, or the dict that a spec would hold.
    :param kwargs: see :class:`~airflow_mlplatform.operators.etl_stage.EtlStageOperator`.
    """

    template_fields: Sequence[str] = ("source",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"source": "json"}

    def __init__(self, *, source: Source | Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = kept(source)

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the source.

        :returns: ``uri``, ``rows``, ``bytes`` and ``schema_hash`` of the staged file.
        """
        from airflow_mlplatform.steps.extract import extract

        with self.bench(context) as bench:
            table = extract(read(Source, self.source, "source"), bench)
            return self.stage(table, bench, context)


class TransformOperator(EtlStageOperator):
    """Turn staged data into other staged data, by one or several steps that run as one.

    :param transforms: the steps, in order (templated).
    :param inputs: table name → id of the task that staged it. ``input`` is what the first step starts from; without an
        entry of that name it is the first one.
    :param kwargs: see :class:`~airflow_mlplatform.operators.etl_stage.EtlStageOperator`.
    :raises UnsupportedHere: for a container step on the local runtime.
    """

    template_fields: Sequence[str] = ("transforms",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"transforms": "json"}

    def __init__(
        self, *, transforms: Sequence[Transform | Mapping[str, Any]], inputs: Mapping[str, str], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
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
            load = read(Load, self.load, "load")
            staging = self.staging(bench)
            result = load_staged(load, staging, self.staged_name(self.input, context), bench)
            staging.remove([self.staged_name(task, context) for task in self.used_up()])
            self.log.info("%s rows (%s bytes) are at %s", result.rows, result.bytes, result.uri)
            return announce(result, load, self.outlets, context)

    def used_up(self) -> list[str]:
        """Ids of upstream stages whose data no other load needs."""
        stages = [task for task in self.get_flat_relatives(upstream=True) if isinstance(task, EtlStageOperator)]
        return [
            stage.task_id
            for stage in stages
            if not any(
                isinstance(task, LoadOperator) and task.task_id != self.task_id
                for task in stage.get_flat_relatives(upstream=False)
            )
        ]
