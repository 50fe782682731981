"""The serving folder of a machine: its endpoints, its only front, and the processes that belong to it."""

from __future__ import annotations

import fcntl
import os
import socket
from typing import TYPE_CHECKING

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.runtime.processes import marked
from airflow_mlplatform.runtime.serving_files import EndpointFiles, FrontRecord, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ServingFolder", "base_url", "listen", "parse_address"]

MARK = "MLPLATFORM_SERVING"
ENDPOINT_MARK = "MLPLATFORM_ENDPOINT"
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not used


def parse_address(address: str) -> tuple[str, int]:
    """Split ``host:port``; an IPv6 host stands in brackets.

    :raises ConfigurationError: for anything else.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigurationError(
            f"[mlplatform] serving_address is {address!r}; write host:port, for example 127.0.0.1:8090"
        )
    return host.strip("[]"), int(port)


def base_url(address: str) -> str:
    """Return the URL under which a client on this machine reaches an address."""
    host, port = parse_address(address)
    host = WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(address: str) -> socket.socket:
    """Listen on an address.

    :raises OSError: if somebody else does, or it is not one of this machine.
    """
    host, port = parse_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1024)


class ServingFolder:
    """``<state_dir>/serving``, made when first used; only its owner may look inside.

    :param state_dir: folder of the local runtime.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir.expanduser().resolve() / "serving"
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.front_path = self.path / "front.json"
        self.front_log = self.path / "front.log"

    def endpoint(self, name: str) -> EndpointFiles:
        """The files of an endpoint, there or not."""
        return EndpointFiles(self.path / name)

    def endpoints(self) -> Iterator[EndpointFiles]:
        """The files of all endpoints that somebody wished for."""
        for path in sorted(self.path.iterdir()):
            files = EndpointFiles(path)
            if files.desired_path.exists() or files.status_path.exists():
                yield files

    def front(self) -> FrontRecord | None:
        """The front that runs, or ``None``."""
        record = read(self.front_path, FrontRecord)
        return record if record and record.process.alive else None

    def lock_front(self) -> int | None:
        """Take the lock that the only front holds for life.

        :returns: an open file that holds it, or ``None`` if there is a front, or one is being started.
        """
        file = os.open(self.path / "front.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        return file

    def mark(self, endpoint: str) -> dict[str, str]:
        """Environment variables that mark a model server of this folder."""
        return {MARK: str(self.path), ENDPOINT_MARK: endpoint}

    def server_groups(self) -> set[int]:
        """Process groups of all model servers of this folder, whoever started them."""
        groups = set()
        for pid in marked(MARK, str(self.path)):
            try:
                groups.add(os.getpgid(pid))
            except ProcessLookupError:
                continue
        return groups
