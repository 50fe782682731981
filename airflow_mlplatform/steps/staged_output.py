"""Stage what a container left behind, if it is Parquet."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.etl import FilesSource
from airflow_mlplatform.steps.files import read_files
from airflow_mlplatform.steps.pod_step import main

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlplatform.steps.pod_step import Order
    from airflow_mlplatform.steps.staging import Staging

__all__ = ["take_away"]

MAGIC = b"PAR1"


def take_away(order: Order, staging: Staging) -> str:
    """Stage the Parquet file, or all of the folder, at the path of the order, as the result of a task.

    :returns: JSON of :class:`~airflow_mlplatform.steps.publish.LoadResult`.
    :raises ConfigurationError: if there is nothing, or something else than Parquet.
    :raises ServiceUnavailable: if S3 does not answer.
    """
    _demand_parquet(order.path)
    table = read_files(FilesSource(uri=str(order.path), format="parquet"), staging.bench)
    if order.own_part is not None:
        result = staging.put_part(order.task, order.own_part, table)
    else:
        result = staging.put(order.task, table)
    return json.dumps(result.to_dict())


def _demand_parquet(path: Path) -> None:
    if not path.exists():
        raise ConfigurationError(
            f"the container ended well but wrote nothing to $OUTPUT ({path}); write a Parquet file, or a folder of "
            "them, there"
        )
    if path.is_file():
        files = [path]
    else:
        found = sorted(file for file in path.rglob("*") if file.is_file())
        files = [file for file in found if not _hidden(file, path)]
    if not files:
        raise ConfigurationError(f"$OUTPUT ({path}) is a folder without files; write Parquet files into it")
    for file in files:
        if not _is_parquet(file):
            raise ConfigurationError(
                f"$OUTPUT: {file} is no Parquet file, or not a whole one; write Parquet, and nothing else beside it"
            )


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(("_", ".")) for part in file.relative_to(folder).parts)


def _is_parquet(file: Path) -> bool:
    with file.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            return False
        stream.seek(-len(MAGIC), 2)
        return stream.read() == MAGIC


if __name__ == "__main__":
    sys.exit(main(take_away))
