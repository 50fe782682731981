"""The processes of a stack: started together, logged to files, stopped without leaving anything behind."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from airflow_mlplatform.exceptions import ProcessFailed
from airflow_mlplatform.runtime.processes import stop_marked

__all__ = ["Processes", "tail"]

LAST_LINES = 15
MARK = "MLPLATFORM_STACK"
# Airflow's process titles would overwrite the environment that others see, and the mark in it.
KEEP_ENVIRONMENT = {"SPT_NOENV": "1"}


@dataclass
class Processes:
    """Child processes that bear the mark of their folder, as does whatever they start; so none is lost.

    :param folder: where the logs lie.
    """

    folder: Path
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self.folder / "logs" / f"{name}.log"

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        """Start a process in a session of its own."""
        self.log(name).parent.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                list(command),
                env={**env, MARK: str(self.folder), **KEEP_ENVIRONMENT},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def check(self) -> None:
        """Make sure that all of them still run.

        :raises ProcessFailed: naming the one that ended, with its last lines.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                raise ProcessFailed(
                    f"{name} ended with exit code {process.returncode}; its log {self.log(name)} ends:\n"
                    f"{tail(self.log(name))}",
                    process.returncode,
                )

    def stop(self) -> None:
        """Stop everything that bears the mark of this folder, also what a former run on it left behind."""
        stop_marked(MARK, str(self.folder))
        for process in self._running.values():
            process.wait()
        self._running.clear()


def tail(path: Path) -> str:
    """Return the last lines of a log; empty if there is none."""
    if not path.exists():
        return ""
    return "\n".join(path.read_text("utf-8", errors="replace").splitlines()[-LAST_LINES:])
