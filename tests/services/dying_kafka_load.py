"""Loads a topic again and again, dying by SIGKILL at a line of our choice. Started as a process by the tests.

Argument: JSON of {folder, pond, logins, topic, stages, ending, columns}. Reads ``line run`` from stdin; for each forks
a child that loads for the run and kills itself at that line of :data:`WATCHED`; prints ``killed`` or ``done``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb  # noqa: F401 - all is imported before the forks
import pyarrow.fs
import pyarrow.parquet  # noqa: F401

from airflow_mlplatform.specs.etl import Load, Source
from airflow_mlplatform.steps.extract import extract
from airflow_mlplatform.steps.login import Login
from airflow_mlplatform.steps.staging import Staging, load_staged
from tests.services.dying_load import die_at
from tests.services.etl_parts import Site, pipeline

WATCHED = ("/kafka/progress.py", "/kafka/ledger.py", "/kafka/aside.py", "/kafka/loading.py", "/kafka/source.py",
           "/publish.py", "/publish_local.py", "/publish_s3.py", "/staging.py")  # fmt: skip


def load(site: Site, task: dict[str, Any], run: str) -> None:
    """Load the topic for a run, in one task or in two."""
    aside = {"set_aside": f"pond://aside/{run}{task['ending']}"}
    options = {"connection": "events", "topic": task["topic"], "columns": task["columns"], "on_error": aside}
    source = {"kafka": options}
    uri = f"pond://clicks/{run}{task['ending']}"
    if task["stages"] == "fused":
        with site.bench(run) as bench:
            pipeline(source, uri).run(replace(bench, progress="pond://clicks"))
        return
    for step in (_extract, _load):
        with site.bench(run) as opened:
            bench = replace(opened, progress="pond://clicks")
            step(bench, Staging("pond://staging", bench), Source.model_validate(source), Load(uri=uri))


def _extract(bench: Any, staging: Staging, source: Source, _: Load) -> None:
    staging.put("extract", extract(source, bench))


def _load(bench: Any, staging: Staging, _: Source, load: Load) -> None:
    load_staged(load, staging, "extract", bench)
    staging.remove(["extract"])


def main() -> None:
    task = json.loads(sys.argv[1])
    logins = {name: Login(**login) for name, login in task["logins"].items()}
    site = Site(Path(task["folder"]), logins, task["pond"])
    for order in sys.stdin:
        line, run = order.split()
        child = os.fork()
        if child == 0:
            die_at(int(line), WATCHED)
            load(site, task, run)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print({-signal.SIGKILL: "killed", 0: "done"}.get(status, f"failed {status}"), flush=True)


if __name__ == "__main__":
    main()
