"""A real Kafka: one KRaft process, broker and controller, that tests may kill and start again.

    with KafkaBroker(folder) as broker:          # on 127.0.0.1
        client({"bootstrap.servers": broker.bootstrap})
        broker.kill(); broker.start()            # same port, same data

`KafkaBroker(folder, host=NODE_IP)` is one that pods reach; it then listens on that address alone.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Self

import pytest

from tests.services.java_parts import java, write_properties
from tests.services.java_process import JavaProcess
from tests.services.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLUSTER_ID = "bWxwbGF0Zm9ybS10ZXN0cw"


@dataclass
class KafkaBroker:
    """One broker with its data in one folder.

    :param folder: where data and log lie; made if missing.
    :param host: address that it listens on and tells its clients.
    :param port: the port it keeps over restarts.
    :param settings: more server properties; they win.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        """What clients call `bootstrap.servers`."""
        return f"{self.host}:{self.port}"

    @cached_property
    def process(self) -> JavaProcess:
        """The process; its folder is made and formatted when this is first asked."""
        self.folder.mkdir(parents=True, exist_ok=True)
        properties = write_properties(self.folder / "server.properties", self._properties())
        if not (self.folder / "data" / "meta.properties").exists():
            arguments = ("format", "-t", CLUSTER_ID, "-c", str(properties))
            subprocess.run(java("kafka.tools.StorageTool", *arguments), check=True, capture_output=True)
        command = java("kafka.Kafka", str(properties), heap="384m", info=("kafka.server.KafkaRaftServer",))
        return JavaProcess(command, self.folder / "broker.log")

    def _properties(self) -> dict[str, str]:
        controller = f"127.0.0.1:{free_port()}"
        single = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "log.dirs": str(self.folder / "data"),
            "group.initial.rebalance.delay.ms": "0",
            # A killed broker must not wait 9 s for its former self to be given up.
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "500",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.min.isr": "1",
            **{f"{topic}.replication.factor": "1" for topic in single},
            **{f"{topic}.num.partitions": "1" for topic in single},
            **self.settings,
        }

    def start(self) -> Self:
        """Start it, or start it again, and wait until it takes clients."""
        self.process.launch()
        self.process.wait_until(lambda: "Kafka Server started" in self.process.printed)
        return self

    def stop(self) -> None:
        """End it in peace; its data stays."""
        self.process.stop()

    def kill(self) -> None:
        """End it at once (`kill -9`); its data stays."""
        self.process.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker for all tests; name topics and groups so that tests do not meet."""
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker of this test alone, which it may kill and start."""
    with KafkaBroker(tmp_path / "kafka") as broker:
        yield broker
