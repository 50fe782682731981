"""What a step works with, and for which run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.steps.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_mlplatform.steps.engine import Engine

__all__ = ["Run", "Table", "Workbench", "scan"]


@dataclass(frozen=True)
class Run:
    """The run that a step belongs to: retries are the same run.

    :param dag_id: the pipeline.
    :param run_id: its run.
    """

    dag_id: str
    run_id: str

    @property
    def key(self) -> str:
        """The run as one text, kept in what it publishes."""
        return f"{self.dag_id}/{self.run_id}"


@dataclass(frozen=True)
class Workbench:
    """Engine, storage and run, handed to every step.

    :param engine: the open engine.
    :param storage: finds places and logins.
    :param run: for which run the step works.
    :param search_path: folder of the spec, where Python transforms are found.
    :param progress: URI of the folder in which the runs of this pipeline find how far streams have been loaded; empty
        where none are read.
    :param reads: what of streams the data holds, topic → range; kept in what is written, for whoever comes next.
    """

    engine: Engine
    storage: Storage = field(default_factory=Storage)
    run: Run = field(default_factory=lambda: Run("manual", "manual"))
    search_path: str | None = None
    progress: str = ""
    reads: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Data between steps.

    :param query: a SELECT that gives it; may be run more than once.
    :param file: the Parquet file that holds exactly this data, if there is one.
    """

    query: str
    file: Path | None = None

    @classmethod
    def of(cls, file: Path) -> Table:
        """The content of one Parquet file on this machine."""
        return cls(f"SELECT * FROM {scan([str(file)])}", file)


def scan(files: list[str], options: str = "hive_partitioning = false") -> str:
    """Write the table function that reads Parquet files; without hive columns unless ``options`` say so."""
    from airflow_mlplatform.steps.engine import literal

    return f"read_parquet({literal(files)}, {options})"
