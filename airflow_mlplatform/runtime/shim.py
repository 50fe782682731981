"""``python -m airflow_mlplatform.runtime.shim FOLDER CWD COMMAND…``: run a command that outlives its starter.

It returns as soon as the command of that folder runs (or turns out to run, or to have ended, already); the work is done
by a detached child, which waits for the command and leaves its exit code.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from airflow_mlplatform.runtime.local import Identity, ProcessFolder, kill_all

__all__ = ["main"]

CANNOT_RUN = 127


def main(arguments: list[str]) -> None:
    """Detach, claim the folder, run the command, leave its exit code."""
    folder, cwd, command = ProcessFolder(Path(arguments[0])), Path(arguments[1]), arguments[2:]
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os.read(reader, 1)  # returns when the child has closed its end: claimed, or died
        return
    os.close(reader)
    os.setsid()
    # Signals for the command must not end who records its end. Handlers, unlike SIG_IGN, are not inherited.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    claimed = _claim(folder)
    os.close(writer)
    if claimed:
        folder.record_exit(_run(command, cwd))


def _claim(folder: ProcessFolder) -> bool:
    with folder.locked():
        former = folder.identity
        if folder.exit_code is not None or (former and former.alive):
            return False
        if former:
            kill_all(former.members())
        _redirect(folder.log)
        folder.record_identity(Identity.own())
    return True


def _redirect(log: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    target = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for descriptor, number in ((nothing, 0), (target, 1), (target, 2)):
        os.dup2(descriptor, number)


def _run(command: list[str], cwd: Path) -> int:
    try:
        process = subprocess.Popen(command, cwd=cwd)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]} in {cwd}: {error}\n")
        sys.stderr.flush()
        return CANNOT_RUN
    code = process.wait()
    # As in a pod, what the command leaves running ends with it.
    kill_all(Identity.own().members())
    return code


if __name__ == "__main__":
    main(sys.argv[1:])
