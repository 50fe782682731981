"""The tasks of a split pipeline as functions; as a process of its own, one of them again and again, each time killed.

Argument of the process: JSON of {folder, pond, staging, source, load, run, logins, module}. Reads a step and a line
number a line from stdin; for each forks a child that kills itself at that line of the module; prints ``killed`` or
``done``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb  # noqa: F401 - all is imported before the forks
import pyarrow.fs
import pyarrow.parquet  # noqa: F401

from airflow_mlplatform.specs.etl import FilesSource, Load
from airflow_mlplatform.steps.file_list import Part, list_files, read_part
from airflow_mlplatform.steps.login import Login
from airflow_mlplatform.steps.staging import Staging, load_staged
from tests.services.dying_load import die_at
from tests.services.etl_parts import Site

if TYPE_CHECKING:
    from airflow_mlplatform.steps.workbench import Workbench

PARTS = 3


class SplitSteps:
    """List, extract and load of one run; retries are calls with the same arguments."""

    def __init__(
        self,
        site: Site,
        staging: str,
        source: dict[str, Any],
        load: dict[str, Any],
        run: str,
        memory: str | None = "1Gi",
    ) -> None:
        self.site, self.staging, self.run, self.memory = site, staging, run, memory
        self.source, self.load = FilesSource.model_validate(source), Load.model_validate(load)

    def do(self, step: str) -> None:
        """Do ``list``, ``extract`` (all parts), ``extract:N`` or ``load``."""
        name, _, number = step.partition(":")
        with self.site.bench(self.run, self.memory) as bench:
            staging = Staging(self.staging, bench)
            if name == "list":
                staging.put_list("list", list_files(self.source, PARTS, bench))
            elif name == "load":
                load_staged(self.load, staging, "extract", bench, "list")
                staging.remove(["list", "extract"])
            else:
                for part in [int(number)] if number else range(len(staging.get_list("list").parts)):
                    self._extract(part, staging, bench)

    def _extract(self, number: int, staging: Staging, bench: Workbench) -> None:
        files = staging.get_list("list")
        part = Part(**files.told()[number])
        staging.put_part("extract", part, read_part(self.source, files, number, bench))

    def order(self, module: str) -> str:
        """What a process of this module is told."""
        logins = {name: {**asdict(login), "extra": dict(login.extra)} for name, login in self.site.logins.items()}
        return json.dumps(
            {
                "folder": str(self.site.folder), "pond": self.site.pond, "staging": self.staging, "logins": logins,
                "source": self.source.model_dump(mode="json"), "load": self.load.model_dump(mode="json"),
                "run": self.run, "module": module,
            }
        )  # fmt: skip


def main() -> None:
    order = json.loads(sys.argv[1])
    logins = {name: Login(**login) for name, login in order["logins"].items()}
    site = Site(Path(order["folder"]), logins, order["pond"])
    steps = SplitSteps(site, order["staging"], order["source"], order["load"], order["run"])
    for text in sys.stdin:
        step, line = text.split()
        child = os.fork()
        if child == 0:
            die_at(int(line), order["module"])
            steps.do(step)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print({-signal.SIGKILL: "killed", 0: "done"}.get(status, f"failed {status}"), flush=True)


if __name__ == "__main__":
    main()
