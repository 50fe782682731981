"""A DAG that stands for a broken spec, where Airflow has room for one import error only."""

from __future__ import annotations

import re

from airflow.sdk import DAG, BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlplatform.policy import SPEC_PATH_ATTRIBUTE
from airflow_mlplatform.specs.load import Document

__all__ = ["BrokenSpecOperator", "placeholder"]


class BrokenSpecOperator(BaseOperator):
    """Fails with the problems of a spec.

    :param problems: the text to fail with.
    """

    def __init__(self, *, problems: str, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]  # BaseOperator's own keywords
        self.problems = problems

    def execute(self, context: Context) -> None:  # noqa: ARG002
        """Fail at once, without retries."""
        raise AirflowFailException(self.problems)


def placeholder(document: Document, problems: str) -> DAG:
    """Make the DAG ``broken-spec.<file>``, whose documentation lists the problems."""
    place = f"{document.shown}.{document.index + 1}" if document.index else document.shown
    dag = DAG(
        dag_id="broken-spec." + re.sub(r"[^A-Za-z0-9_.-]+", "-", place),
        description=problems.splitlines()[0],
        doc_md="**This spec is broken and has no DAG of its own.**\n\n"
        + "\n".join(f"* `{p}`" for p in problems.splitlines()),
        schedule=None,
        tags=["broken-spec"],
    )
    BrokenSpecOperator(task_id="problems", problems=problems, dag=dag)
    setattr(dag, SPEC_PATH_ATTRIBUTE, str(document.path))
    return dag
