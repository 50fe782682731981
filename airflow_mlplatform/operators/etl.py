"""The operators of an ETL pipeline: one a stage, and one for all stages at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.operators.etl_stage import EtlStageOperator, announce, kept, own_outlets, read, shared_folder
from airflow_mlplatform.specs.etl import Checks, Load, Source, Transform

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["EtlOperator"]


class EtlOperator(EtlStageOperator):
    """Extract, transform, check and load in one task, without staging.

    ::

        EtlOperator(
            task_id="orders",
            extract={"sql": {"connection": "shop", "query": "select * from orders where day = '{{ ds }}'"}},
            transform=[{"sql": "select *, price * quantity as total from input"}],
            checks={"rows": {"min": 1}, "unique": ["id"]},
            load={"uri": "pond://orders/{{ ds }}.parquet"},
        )

    Arguments are the words of the spec language, as dicts or as models of :mod:`airflow_mlplatform.specs.etl`; all
    are templated.

    :param extract: a source, or several, each with a name.
    :param load: where the result goes. Without ``outlets`` its asset becomes the task's outlet.
    :param transform: steps, in order.
    :param checks: what must be true before the load.
    :param kwargs: ``memory``, ``search_path``, ``progress`` (the load's URI up to its first template, if left out) as
        :class:`~airflow_mlplatform.operators.etl_stage.EtlStageOperator` has them, and what every operator takes.
    """

    template_fields: Sequence[str] = ("extract", "transform", "checks", "load")
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(template_fields, "json")

    def __init__(
        self,
        *,
        extract: Source | Mapping[str, Any] | Sequence[Source | Mapping[str, Any]],
        load: Load | Mapping[str, Any],
        transform: Sequence[Transform | Mapping[str, Any]] = (),
        checks: Checks | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("outlets", own_outlets(load))
        sources = [kept(one) for one in (extract if isinstance(extract, Sequence) else (extract,))]
        if any(source.get("kafka") for source in sources):
            kwargs.setdefault("progress", shared_folder(load))
        super().__init__(**kwargs)
        self.extract = sources
        self.transform = [kept(one) for one in transform]
        self.checks = kept(checks) if checks is not None else None
        self.load = kept(load)
        self.demand_runnable(self.transform)
        if any((source.get("files") or {}).get("split") for source in self.extract):
            raise ConfigurationError(
                f"task {self.task_id}: one task cannot share files with others; drop split, or map ExtractOperator "
                "over ListFilesOperator"
            )

    def execute(self, context: Context) -> dict[str, Any]:
        """Run all stages.

        :returns: ``uri``, ``rows``, ``bytes``, ``schema_hash`` and ``spec_uri`` of what was published.
        """
        from airflow_mlplatform.steps.pipeline import Pipeline

        with self.bench(context) as bench:
            load = read(Load, self.load, "load")
            pipeline = Pipeline(
                sources=[read(Source, source, "extract") for source in self.extract],
                transforms=[read(Transform, step, f"transform.{number}") for number, step in enumerate(self.transform)],
                checks=read(Checks, self.checks, "checks") if self.checks is not None else None,
                load=load,
            )
            result = pipeline.run(bench)
            self.log.info("Published %s rows (%s bytes) at %s", result.rows, result.bytes, result.uri)
            return announce(result, load, self, context)
