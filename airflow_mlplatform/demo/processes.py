"""The processes of a stack: started together, logged to files, stopped without leaving anything behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from airflow_mlplatform.exceptions import ProcessFailed

__all__ = ["Processes", "free_port"]

LAST_LINES = 15


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Processes:
    """Child processes with a record on disk, so that the next run can stop what a killed one left behind.

    :param folder: where the record and the logs lie.
    """

    folder: Path
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def record(self) -> Path:
        """The file that lists the processes."""
        return self.folder / "processes.json"

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self.folder / "logs" / f"{name}.log"

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        """Start a process in a session of its own."""
        self.log(name).parent.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - a list of words, no shell
                list(command), env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._running[name] = process
        self._write_record()

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
        """Stop all of them and whatever they started; afterwards none is left."""
        families = [_family(process.pid) for process in self._running.values()]
        stop_all([process for family in families for process in family])
        for process in self._running.values():
            process.wait()
        self._running.clear()
        self.record.unlink(missing_ok=True)

    def stop_leftovers(self) -> int:
        """Stop what a former run on the same folder left behind; return how many processes that were."""
        try:
            known = json.loads(self.record.read_text("utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return 0
        left = [process for pid, created in known.values() for process in _family(pid, created)]
        stop_all(left)
        self.record.unlink(missing_ok=True)
        return len(left)

    def _write_record(self) -> None:
        rows = {}
        for name, process in self._running.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                rows[name] = (process.pid, psutil.Process(process.pid).create_time())
        temporary = self.record.with_suffix(".tmp")
        temporary.write_text(json.dumps(rows), "utf-8")
        temporary.replace(self.record)


def tail(path: Path) -> str:
    """Return the last lines of a log."""
    with contextlib.suppress(FileNotFoundError):
        return "\n".join(path.read_text("utf-8", errors="replace").splitlines()[-LAST_LINES:])
    return ""


def _family(pid: int, created: float | None = None) -> list[psutil.Process]:
    """A process, its descendants and the members of its session, which may have lost their parent."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if process.pid != os.getpid() and os.getsid(process.pid) == pid:
                found[process.pid] = process
    with contextlib.suppress(psutil.NoSuchProcess):
        leader = psutil.Process(pid)
        if created is not None and abs(leader.create_time() - created) > 1:
            return []
        found.update({child.pid: child for child in [leader, *leader.children(recursive=True)]})
    return list(found.values())


def stop_all(processes: Sequence[psutil.Process], grace: float = 10) -> None:
    """Ask processes to end, and after the grace period (seconds) end them."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=grace)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=grace)
