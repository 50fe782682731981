"""A Java program of ours that tests may stop, kill and start again."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START_TIMEOUT = 120.0
STOP_TIMEOUT = 30.0


@dataclass
class JavaProcess:
    """One program, in as many lives as a test gives it.

    :param command: what to run.
    :param log: file that takes all that it prints, over all lives.
    :param environment: environment variables; `None` for those of the tests.
    """

    command: list[str]
    log: Path
    environment: dict[str, str] | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _printed_before: int = field(default=0, init=False)

    def launch(self) -> None:
        """Start it."""
        self._printed_before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment
            )

    def wait_until(self, ready: Callable[[], object]) -> None:
        """Wait until it is ready; fail the test with the end of its log if it ends before."""
        try:
            wait_for(lambda: not self.running or ready(), timeout=START_TIMEOUT)
        finally:
            if not self.running or not ready():
                self.kill()
                pytest.fail(f"{self.log.name}: did not start\n{self.printed[-5000:]}", pytrace=False)

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def printed(self) -> str:
        """What it printed since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._printed_before)
            return log.read().decode(errors="replace")

    def stop(self) -> None:
        """End it in peace."""
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it at once (`kill -9`)."""
        if self.process:
            self.process.kill()
            self.process.wait()
