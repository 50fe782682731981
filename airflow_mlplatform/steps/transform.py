"""From tables to a table: SQL that DuckDB runs, or a Python callable between Arrow and Arrow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError, UnsupportedHere
from airflow_mlplatform.steps.engine import without_semicolon
from airflow_mlplatform.steps.python_code import run_python
from airflow_mlplatform.steps.workbench import Table, Workbench

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_mlplatform.specs.etl import Transform

__all__ = ["refuse_containers", "transform"]


def refuse_containers(transforms: Iterable[Transform]) -> None:
    """Tell that the local runtime has no containers, before anything runs.

    :raises UnsupportedHere: if one of the transforms is a container.
    """
    for number, step in enumerate(transforms, 1):
        if step.container is not None:
            raise UnsupportedHere(
                f"transform {number}: a container (image {step.container.image!r}) needs Kubernetes and this runs on "
                "the local runtime; set [mlplatform] runtime = kubernetes, or use sql: or python:"
            )


def transform(transforms: Sequence[Transform], start: Table, bench: Workbench) -> Table:
    """Run transforms in order.

    SQL is not run here but nested into the query of the result, so that the engine sees all of it at once.

    :param start: what the first transform knows as ``input``.
    :raises ConfigurationError: for a transform that cannot work.
    """
    refuse_containers(transforms)
    table = start
    for number, step in enumerate(transforms, 1):
        if step.sql is not None:
            table = _sql(step.sql, table, bench, f"transform {number} (sql)")
        elif step.python is not None:
            table = run_python(step.python, table, bench, f"transform {number} (python {step.python})")
    return table


def _sql(text: str, table: Table, bench: Workbench, where: str) -> Table:
    with bench.engine.explaining(where, "correct the query"):
        _demand_select(text, bench, where)
        # The line break ends a comment in the last line.
        query = f"WITH input AS ({table.query}) SELECT * FROM (\n{without_semicolon(text)}\n)"
        bench.engine.columns(query)
    return Table(query)


def _demand_select(text: str, bench: Workbench, where: str) -> None:
    statements = bench.engine.connection.extract_statements(text)
    if len(statements) != 1:
        raise ConfigurationError(f"{where}: has {len(statements)} statements; a transform is one SELECT")
    kind = statements[0].type.name
    if kind not in ("SELECT", "MULTI"):  # MULTI: a PIVOT, which looks for its columns first
        raise ConfigurationError(f"{where}: is {kind}, not a SELECT; what it selects is the result")
