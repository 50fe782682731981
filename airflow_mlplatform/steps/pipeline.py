"""All stages of an ETL pipeline in one go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.check import check
from airflow_mlplatform.steps.extract import extract_all
from airflow_mlplatform.steps.kafka.loading import loading, marked
from airflow_mlplatform.steps.parquet import write_parquet
from airflow_mlplatform.steps.publish import LoadResult, publish
from airflow_mlplatform.steps.transform import refuse_containers, transform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_mlplatform.specs.etl import Checks, Load, Source, Transform
    from airflow_mlplatform.steps.workbench import Table, Workbench

__all__ = ["Pipeline", "materialise"]


@dataclass(frozen=True)
class Pipeline:
    """What an ETL spec does.

    :param sources: what is read; the first one is ``input``.
    :param transforms: steps, in order.
    :param checks: what must be true before the load.
    :param load: where the result goes.
    """

    sources: Sequence[Source]
    transforms: Sequence[Transform]
    checks: Checks | None
    load: Load

    def run(self, bench: Workbench) -> LoadResult:
        """Run all stages; nothing is visible before the checks have passed.

        :raises ConfigurationError: for a mistake in the spec.
        :raises CheckFailed: if the data is not as it must be.
        """
        refuse_containers(self.transforms)
        if not self.sources:
            raise ConfigurationError("extract: there is no source; add one")
        table = extract_all(self.sources, bench)
        bench = marked(bench)
        table = transform(self.transforms, table, bench)
        table = materialise(table, bench, "extract and transform")
        if self.checks is not None:
            check(self.checks, table, bench)
        with loading(self.load, bench) as marking:
            return publish(self.load, table, marking)


def materialise(table: Table, bench: Workbench, where: str) -> Table:
    """Run a table's query once, into a file, if it is not one already."""
    if table.file is not None:
        return table
    with bench.engine.explaining(where):
        return write_parquet(bench, table.query, bench.engine.fresh("result.parquet"))
