"""A real Alertmanager, configured as the stack configures it, and a Prometheus whose alerts it gets."""

from __future__ import annotations

import copy
import json
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import httpx

from tests.parts import program
from tests.services.ports import free_port
from tests.services.stack.rendering import values
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

GET_ALERTMANAGER = "Alertmanager: apt-get install prometheus-alertmanager (and stop the service that it starts)"
AIRFLOW = "http://airflow-api-server.airflow.svc.cluster.local:8080"
SOON = "1s"


@dataclass
class AlertmanagerServer:
    """One Alertmanager.

    :param root: an empty folder for its data.
    :param receiver: address of Airflow's API server.
    :param token: what it shows there.
    """

    root: Path
    receiver: str
    token: str
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def configuration(self) -> dict[str, Any]:
        """That of the stack, but for addresses and times."""
        config = copy.deepcopy(values("kube-prometheus-stack", "small")["alertmanager"]["config"])
        (route,) = [route for route in config["route"]["routes"] if route["receiver"] == "airflow"]
        route |= {"group_wait": SOON, "group_interval": SOON, "repeat_interval": SOON}
        (webhook,) = [one for receiver in config["receivers"] for one in receiver.get("webhook_configs", ())]
        webhook["url"] = webhook["url"].replace(
            "http://airflow-api-server.airflow.svc.cluster.local:8080", self.receiver
        )
        webhook["http_config"]["authorization"]["credentials_file"] = str(self.root / "token")
        return dict(config)

    def start(self) -> Self:
        """Start it and wait until it answers."""
        (self.root / "token").write_text(f"{self.token}\n")
        (self.root / "alertmanager.yml").write_text(json.dumps(self.configuration()))
        command = [
            program("prometheus-alertmanager", GET_ALERTMANAGER),
            f"--config.file={self.root}/alertmanager.yml",
            f"--storage.path={self.root}/data",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
        ]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self._ready, f"for Alertmanager, see {self.root}/log")
        return self

    def _ready(self) -> bool:
        assert self._process
        assert self._process.poll() is None, (self.root / "log").read_text()
        try:
            return httpx.get(f"http://{self.address}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def count(self, metric: str) -> float:
        """The value of one of its counters of webhooks."""
        lines = httpx.get(f"http://{self.address}/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f'{metric}{{integration="webhook"'))

    def stop(self) -> None:
        """End it."""
        if self._process:
            self._process.terminate()
            self._process.wait(30)
