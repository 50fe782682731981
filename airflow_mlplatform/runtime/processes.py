"""Processes that outlive their starter: found again by a mark in their environment, stopped as a group."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "group_members",
    "listens",
    "marked",
    "port_holder",
    "signal_group",
    "stop_group",
    "stop_marked",
]

POLL = 0.05


def _running() -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue


def group_members(group: int) -> list[int]:
    """Return the pids of a process group that still run, zombies not counted."""
    members = []
    for pid in psutil.pids():
        try:
            if os.getpgid(pid) == group and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                members.append(pid)
        except (psutil.Error, OSError):
            continue
    return members


def marked(name: str, value: str) -> list[int]:
    """Return the pids of our own processes that were started with the environment variable ``name=value``."""
    found = []
    for process in _running():
        try:
            if process.pid != os.getpid() and process.environ().get(name) == value:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group; a group that is gone is fine."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _wait_gone(group: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while group_members(group):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL)
    return True


def stop_group(group: int, grace: float = 10.0) -> None:
    """Stop a process group, by force what is left after ``grace`` seconds. Returns when all are gone."""
    signal_group(group, signal.SIGTERM)
    if not _wait_gone(group, grace):
        signal_group(group, signal.SIGKILL)
        _wait_gone(group, grace)


def stop_marked(name: str, value: str, grace: float = 10.0) -> list[int]:
    """Stop the groups of all processes that bear a mark, and return the groups.

    :param name: name of the environment variable that is the mark.
    :param value: its value.
    :param grace: seconds between SIGTERM and SIGKILL.
    """
    groups: set[int] = set()
    for pid in marked(name, value):
        try:
            groups.add(os.getpgid(pid))
        except ProcessLookupError:
            continue
    # A marked process that never left our own group must not take us with it.
    groups.discard(os.getpgid(0))
    for group in groups:
        signal_group(group, signal.SIGTERM)
    for group in groups:
        stop_group(group, grace)
    return sorted(groups)


def listens(group: int, port: int) -> bool:
    """Whether a process of this group listens on a TCP port; ``True`` where the system will not tell."""
    for pid in group_members(group):
        try:
            sockets = psutil.Process(pid).net_connections(kind="tcp")
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            return True
        if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets):
            return True
    return False


def port_holder(port: int) -> str:
    """Say in words which process listens on a port, as far as the system tells us."""
    for process in _running():
        try:
            sockets = process.net_connections(kind="tcp")
            if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets):
                return f"pid {process.pid} ({Path(process.name()).name}, user {process.username()})"
        except (psutil.Error, OSError):
            continue
    return "a process of another user"
