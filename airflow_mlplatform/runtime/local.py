"""Processes of this machine that outlive whoever started them: the local counterpart of a pod.

A process is known by its folder. There a small supervisor, the shim, leaves who it is (``process.json``), what the
command prints (``log``) and how it ended (``exit_code``), so that a later process goes on where a killed one stopped.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import psutil

from airflow_mlplatform.exceptions import ProcessFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Identity", "LocalProcess", "ProcessFolder", "inherited_environment", "kill_all"]

POLL_SECONDS = 0.1
LONGEST_LINE = 64 * 1024
# Airflow's own variables hold its database, its keys and its connections: nothing for the code of a project.
PRIVATE_PREFIXES = ("AIRFLOW", "_AIRFLOW")


def inherited_environment() -> dict[str, str]:
    """Return this process's environment without Airflow's own variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE_PREFIXES)}


@dataclass(frozen=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same pid.

    :param pid: process id; the shim leads a session of the same id.
    :param started: when it started, in seconds since the epoch.
    """

    pid: int
    started: float

    @classmethod
    def own(cls) -> Self:
        """The identity of the calling process."""
        return cls(os.getpid(), psutil.Process().create_time())

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        try:
            process = psutil.Process(self.pid)
            # The clock that create_time is reckoned from may be set by a second while the machine runs.
            return abs(process.create_time() - self.started) < 2 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def members(self) -> list[psutil.Process]:
        """Return all processes of its session except itself; they may outlive it."""
        return [process for process in psutil.process_iter() if process.pid != self.pid and self._holds(process)]

    def _holds(self, process: psutil.Process) -> bool:
        # A session id is not given away again before its last member is gone, so an older process is no member.
        try:
            return os.getsid(process.pid) == self.pid and process.create_time() > self.started - 2
        except (psutil.Error, OSError):
            return False


@dataclass(frozen=True)
class ProcessFolder:
    """The files by which a process is known."""

    path: Path

    @property
    def log(self) -> Path:
        """What the command printed, both streams."""
        return self.path / "log"

    @property
    def identity(self) -> Identity | None:
        """Who runs or ran the command; ``None`` before the first start."""
        try:
            return Identity(**json.loads((self.path / "process.json").read_text()))
        except FileNotFoundError:
            return None

    @property
    def exit_code(self) -> int | None:
        """How the command ended; ``None`` while it runs, or if it was lost without a trace."""
        try:
            return int((self.path / "exit_code").read_text())
        except FileNotFoundError:
            return None

    def record_identity(self, identity: Identity) -> None:
        """Leave who runs the command."""
        self._write("process.json", json.dumps(asdict(identity)))

    def record_exit(self, code: int) -> None:
        """Leave how the command ended."""
        self._write("exit_code", str(code))

    def _write(self, name: str, text: str) -> None:
        unfinished = self.path / f".{name}.{os.getpid()}"
        unfinished.write_text(text)
        unfinished.replace(self.path / name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others, in this process or another, from starting or clearing it meanwhile."""
        with (self.path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class LocalProcess:
    """A command that runs, or ran, detached from its starter.

    :param folder: its folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = ProcessFolder(folder)

    @classmethod
    def attach(cls, folder: Path) -> Self | None:
        """Return the process of a folder, running or ended; ``None`` if none was ever started there."""
        return cls(folder) if ProcessFolder(folder).identity else None

    @classmethod
    def ensure(cls, folder: Path, command: Sequence[str], env: Mapping[str, str], cwd: Path) -> Self:
        """Return the process of a folder, started now unless it runs or has ended already.

        One that was lost (killed together with its shim, or the machine went down) is started again. Any number of
        callers may do this at once: one command starts.

        :param command: program and arguments; no secrets, everybody can list them.
        :param env: the whole environment; it is never written to disk.
        :param cwd: working directory.
        :raises ProcessFailed: if not even the shim could be started.
        """
        folder.mkdir(parents=True, exist_ok=True)
        shim = [sys.executable, "-m", "airflow_mlplatform.runtime.shim", str(folder), str(cwd), *command]
        done = subprocess.run(
            shim, env=dict(env), cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        process = cls.attach(folder)
        if process is None:
            complaint = done.stderr.decode(errors="replace").strip().splitlines()
            why = complaint[-1] if complaint else f"exit code {done.returncode}"
            raise ProcessFailed(f"{command[0]} was not started in {folder}: {why}; see that the folder is writable")
        return process

    @property
    def alive(self) -> bool:
        """Whether the command runs."""
        identity = self._folder.identity
        return identity is not None and identity.alive

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; ``None`` while it runs, or if it was lost without a trace."""
        return self._folder.exit_code

    @property
    def log(self) -> Path:
        """The file that holds what the command prints."""
        return self._folder.log

    def follow(self) -> Iterator[str]:
        """Yield what the command prints, line by line from the beginning, until it has ended."""
        pending = b""
        with self._folder.log.open("rb") as log:
            while True:
                # Asked before reading: what is written between the two is read in the next round.
                ended = not self.alive
                while piece := log.read(LONGEST_LINE):
                    *lines, pending = (pending + piece).split(b"\n")
                    yield from map(_text, lines)
                    if len(pending) >= LONGEST_LINE:
                        yield _text(pending)
                        pending = b""
                if ended:
                    break
                time.sleep(POLL_SECONDS)
        if pending:
            yield _text(pending)

    def stop(self, grace: float = 10.0) -> None:
        """End the command and everything it started.

        :param grace: seconds between asking (SIGTERM) and killing (SIGKILL).
        """
        identity = self._folder.identity
        if identity is None:
            return
        members = identity.members()
        for member in members:
            with suppress(psutil.NoSuchProcess):
                member.terminate()
        psutil.wait_procs(members, timeout=grace)
        kill_all(identity.members())
        if not _gone(identity, timeout=5):
            with suppress(ProcessLookupError):
                os.kill(identity.pid, signal.SIGKILL)

    def forget(self) -> None:
        """Remove the folder of a process that has ended."""
        shutil.rmtree(self._folder.path, ignore_errors=True)


def _text(line: bytes) -> str:
    # A progress bar rewrites its line; only what stands at the end matters.
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")


def kill_all(processes: Sequence[psutil.Process]) -> None:
    """Kill processes; those that are gone already are fine."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _gone(identity: Identity, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while identity.alive:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS / 10)
    return True
