"""All specs of a folder as DAGs of one Python file: for deployments that cannot use the spec bundle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import SpecError
from airflow_mlplatform.factory.build import build_dag
from airflow_mlplatform.factory.discover import find_specs, load_folder, mark_duplicates
from airflow_mlplatform.factory.placeholder import placeholder
from airflow_mlplatform.specs.load import Document, load_file

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["load_dags"]


def load_dags(folder: str | Path, only: str | None = None) -> dict[str, DAG]:
    """Return the DAGs of a folder by id; a broken spec becomes a DAG named ``broken-spec.…`` and costs no other one.

    :param folder: the folder of specs.
    :param only: id of the one DAG that is wanted, as a worker does; files that cannot hold it are not even parsed.
    """
    root = Path(folder)
    documents = load_folder(root) if only is None else _documents_of(root, only)
    dags = (_dag_or_placeholder(document) for document in documents)
    return {dag.dag_id: dag for dag in dags if only in (None, dag.dag_id)}


def _dag_or_placeholder(document: Document) -> DAG:
    try:
        return build_dag(document)
    except SpecError as error:
        return placeholder(document, str(error))


def _documents_of(root: Path, dag_id: str) -> list[Document]:
    if dag_id.startswith("broken-spec."):
        return load_folder(root)
    naming = re.compile(rb"name[\"']?\s*:\s*[\"']?" + re.escape(dag_id.encode()))
    files = [path for path in find_specs(root) if path.is_file() and naming.search(path.read_bytes())]
    documents = mark_duplicates(document for path in files for document in load_file(path, root))
    return [document for document in documents if document.name == dag_id]
