"""Runs a load again and again, dying by SIGKILL one line later each time. Started as a process by the tests.

Arguments: JSON of {folder, pond, logins, extract, load, run, module}. Reads a line number a line from stdin; for each
forks a child that kills itself at that line of the module; prints ``killed`` or ``done``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import duckdb  # noqa: F401 - all is imported before the forks
import pyarrow.fs
import pyarrow.parquet  # noqa: F401

import airflow_mlplatform.steps.pipeline  # noqa: F401
from airflow_mlplatform.steps.login import Login
from tests.services.etl_parts import Site


def die_at(number: int, module: str | tuple[str, ...]) -> None:
    """Kill this process before the given executed line of a module, or of several, counted from 1."""
    seen = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal seen
        if not frame.f_code.co_filename.endswith(module):
            return None
        if event == "line":
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)


def main() -> None:
    task = json.loads(sys.argv[1])
    logins = {name: Login(**login) for name, login in task["logins"].items()}
    site = Site(Path(task["folder"]), logins, task["pond"])
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            die_at(int(line), task["module"])
            site.run(task["extract"], task["load"], run=task["run"])
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print({-signal.SIGKILL: "killed", 0: "done"}.get(status, f"failed {status}"), flush=True)


if __name__ == "__main__":
    main()
