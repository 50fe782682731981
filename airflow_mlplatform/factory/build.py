"""Spec → DAG: the kind decides on the builder; whatever a builder refuses is told with file and line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError, SpecError
from airflow_mlplatform.factory.deployment import build_deployment
from airflow_mlplatform.factory.discover import duplicate
from airflow_mlplatform.factory.etl import build_etl
from airflow_mlplatform.factory.streaming import build_streaming
from airflow_mlplatform.factory.training import build_training
from airflow_mlplatform.specs.deployment import Deployment
from airflow_mlplatform.specs.etl import Etl
from airflow_mlplatform.specs.load import Document, load_document
from airflow_mlplatform.specs.problems import Problem
from airflow_mlplatform.specs.streaming import Streaming

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["build_dag", "dag_of"]


def build_dag(document: Document, bundle: str = "") -> DAG:
    """Build the DAG of a loaded document. No network, connection, variable or clock is touched.

    :param bundle: name of the DAG bundle that holds the specs, if it is a spec bundle.
    :raises SpecError: if the document has problems, or this runtime cannot do what it asks.
    """
    spec = document.require()
    try:
        if isinstance(spec, Etl):
            return build_etl(spec, document.path, document.shown)
        if isinstance(spec, Deployment):
            return build_deployment(spec, document.path, document.shown)
        if isinstance(spec, Streaming):
            return build_streaming(spec, document.path, document.shown)
        return build_training(spec, document.path, document.shown, bundle)
    except ConfigurationError as error:
        what, _, todo = str(error).partition("; ")
        problem = Problem(document.shown, document.line, 1, "", what, todo or "change the spec or [mlplatform] runtime")
        raise SpecError([problem]) from error


def dag_of(path: str, *, root: str, index: int = 0, also_named_in: Sequence[str] = (), bundle: str = "") -> DAG:
    """Load one document and build its DAG: what a stub of the spec bundle calls.

    :param path: the YAML file.
    :param root: the folder of specs.
    :param index: position of the document in the file, from 0.
    :param also_named_in: places of other specs with the same name, found when the folder was read.
    :param bundle: name of the DAG bundle that holds the specs.
    :raises SpecError: with every problem of the document.
    """
    document = load_document(Path(path), index, Path(root))
    if also_named_in:
        document = replace(document, spec=None, problems=(*document.problems, duplicate(document, also_named_in)))
    return build_dag(document, bundle)
