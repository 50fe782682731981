"""From a source to a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlplatform.specs.etl import FilesSource, Source
from airflow_mlplatform.steps.database import read_sql
from airflow_mlplatform.steps.engine import identifier
from airflow_mlplatform.steps.files import read_files
from airflow_mlplatform.steps.http import read_http

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_mlplatform.steps.workbench import Table, Workbench

__all__ = ["extract", "extract_all", "name_table"]


def extract(source: Source, bench: Workbench) -> Table:
    """Make a source readable: files by a query over them, databases, APIs and topics by a copy in scratch.

    :raises ConfigurationError: for a source that cannot be read as it is described.
    :raises ServiceUnavailable: if what holds it does not answer.
    """
    if source.sql is not None:
        return read_sql(source.sql, bench)
    if source.http is not None:
        return read_http(source.http, bench)
    if source.kafka is not None:
        # Imported here: few pipelines have streams.
        from airflow_mlplatform.steps.kafka.source import read_kafka

        return read_kafka(source.kafka, bench)
    assert isinstance(source.files, FilesSource)
    return read_files(source.files, bench)


def extract_all(sources: Sequence[Source], bench: Workbench) -> Table:
    """Make several sources readable, each as a table of its name; return the first one."""
    tables = [(source.name, extract(source, bench)) for source in sources]
    for name, table in tables:
        if name:
            name_table(name, table, bench)
    return tables[0][1]


def name_table(name: str, table: Table, bench: Workbench) -> None:
    """Let SQL transforms use a table by its name."""
    with bench.engine.explaining(f"source {name}"):
        bench.engine.connection.execute(f"CREATE VIEW {identifier(name)} AS {table.query}")
