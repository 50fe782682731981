"""Bring staged data into a pod, as one Parquet file, for a container that knows nothing of Airflow."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from airflow_mlplatform.steps.parquet import write_parquet
from airflow_mlplatform.steps.pod_step import main

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlplatform.steps.pod_step import Order
    from airflow_mlplatform.steps.staging import Staging
    from airflow_mlplatform.steps.workbench import Table

__all__ = ["bring"]


def bring(order: Order, staging: Staging) -> str:
    """Put what a task staged at the path of the order; parts become one file.

    :returns: what to tell people.
    :raises ConfigurationError: if nothing is staged.
    :raises ServiceUnavailable: if S3 does not answer.
    """
    table, engine = _table(order, staging), staging.bench.engine
    with engine.explaining("staged input"):
        file = table.file or write_parquet(staging.bench, table.query, engine.fresh("input.parquet")).file
    assert file is not None
    _place(file, order.path)
    return f"{order.path}: {order.path.stat().st_size} bytes, {shutil.disk_usage(order.path.parent).free} bytes free"


def _table(order: Order, staging: Staging) -> Table:
    if order.own_part is not None:
        return staging.get_part(order.task, order.own_part)
    return staging.get_parts(order.task, order.listing).table() if order.listing else staging.get(order.task)


def _place(file: Path, target: Path) -> None:
    if file.is_symlink() or file.stat().st_nlink > 1:
        # The staged file itself; a container that writes into its input must not reach it.
        shutil.copyfile(file, target)
    else:
        file.replace(target)
    target.chmod(0o664)


if __name__ == "__main__":
    sys.exit(main(bring))
