"""A real statsd exporter, the one that Airflow's chart puts beside Airflow."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx

from tests.parts import program
from tests.services.ports import free_port
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

GET_EXPORTER = "statsd exporter: go install github.com/prometheus/statsd_exporter@v0.28.0, and put it on PATH"
PLACES = (str(Path.home() / "go" / "bin"),)


@dataclass
class StatsdExporter:
    """One exporter.

    :param folder: for its log and its configuration.
    :param mappings: what the stack adds to the mappings of names of Airflow's chart.
    """

    folder: Path
    mappings: list[dict[str, str]]
    udp: int = field(default_factory=free_port)
    http: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def _log(self) -> Path:
        return self.folder / "exporter.log"

    @property
    def address(self) -> str:
        """Where it is scraped."""
        return f"127.0.0.1:{self.http}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes an Airflow send to it as the stack's values have it."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self.udp),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
            "AIRFLOW__METRICS__LEGACY_NAMES_ON": "False",
        }

    def start(self) -> Self:
        """Start it and wait until it answers."""
        mappings = self.folder / "mappings.yaml"
        mappings.write_text(json.dumps({"mappings": self.mappings}))
        command = [
            program("statsd_exporter", GET_EXPORTER, *PLACES),
            f"--statsd.listen-udp=127.0.0.1:{self.udp}",
            "--statsd.listen-tcp=",
            f"--statsd.mapping-config={mappings}",
            f"--web.listen-address={self.address}",
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self._answers, f"for the statsd exporter, see {self._log}")
        return self

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, self._log.read_text()
        try:
            return httpx.get(f"http://{self.address}/metrics").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """End it."""
        if self._process:
            self._process.terminate()
            self._process.wait(30)
