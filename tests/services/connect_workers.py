"""A real Kafka Connect: some distributed workers with file connectors, Debezium for PostgreSQL and its JDBC sink.

    with ConnectWorkers(folder, broker.bootstrap, count=2) as connect:
        httpx.get(f"{connect.urls[0]}/connectors")
        connect.workers[1].kill(); connect.workers[1].start()

The workers resolve `${file:PATH:KEY}` and `${env:NAME}`, commit offsets each second, and find after 6 s that one of
them is gone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Self

import httpx
import pytest

from tests.services.java_parts import PLUGINS, java, write_properties
from tests.services.java_process import JavaProcess
from tests.services.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.kafka_broker import KafkaBroker

JSON = "org.apache.kafka.connect.json.JsonConverter"
PROVIDERS = "org.apache.kafka.common.config.provider"


@dataclass
class ConnectWorker:
    """One worker.

    :param name: what its files are called.
    :param folder: where they lie.
    :param settings: worker properties without its own address.
    :param host: address that it listens on and tells the other workers.
    :param environment: more environment variables, for `${env:…}`.
    :param login: user and password that its REST API asks for.
    :param heap: most heap, as Java writes it.
    :param port: the port it keeps over restarts.
    """

    name: str
    folder: Path
    settings: dict[str, str]
    host: str = "127.0.0.1"
    environment: dict[str, str] = field(default_factory=dict)
    login: tuple[str, str] | None = None
    heap: str = "512m"
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        """Base URL of its REST API, without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    @cached_property
    def process(self) -> JavaProcess:
        """The process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        address = {"listeners": self.url, "rest.advertised.host.name": self.host}
        properties = write_properties(self.folder / f"{self.name}.properties", address | self.settings)
        command = java("org.apache.kafka.connect.cli.ConnectDistributed", str(properties), heap=self.heap)
        return JavaProcess(command, self.folder / f"{self.name}.log", os.environ | self.environment)

    def launch(self) -> None:
        """Start it, or start it again, without waiting."""
        self.process.launch()

    def wait(self) -> None:
        """Wait until it answers as a member of the group."""
        self.process.wait_until(self._answers)

    def start(self) -> Self:
        """Start it, or start it again, and wait until it answers."""
        self.launch()
        self.wait()
        return self

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/connectors", auth=self.login, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """End it in peace: it leaves the group."""
        self.process.stop()

    def kill(self) -> None:
        """End it at once (`kill -9`): the group finds out by and by."""
        self.process.kill()


@dataclass
class ConnectWorkers:
    """A Connect cluster.

    :param folder: where files and logs lie.
    :param bootstrap: `bootstrap.servers` of its Kafka.
    :param count: how many workers.
    :param group: its group id, from which the names of its topics are made.
    :param host: address that the workers listen on.
    :param settings: more worker properties; they win.
    :param environment: more environment variables of the workers.
    :param heap: most heap of each, as Java writes it.
    """

    folder: Path
    bootstrap: str
    count: int = 2
    group: str = "connect"
    host: str = "127.0.0.1"
    settings: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    heap: str = "512m"

    @cached_property
    def workers(self) -> list[ConnectWorker]:
        """The workers, running or not."""
        return [
            ConnectWorker(
                f"worker-{number}", self.folder, self._properties(), self.host, self.environment, heap=self.heap
            )
            for number in range(self.count)
        ]

    @property
    def urls(self) -> list[str]:
        """Base URLs of the workers' REST APIs."""
        return [worker.url for worker in self.workers]

    def _properties(self) -> dict[str, str]:
        topics = ("config", "offset", "status")
        return {
            "bootstrap.servers": self.bootstrap,
            "group.id": self.group,
            **{f"{topic}.storage.topic": f"{self.group}-{topic}s" for topic in topics},
            **{f"{topic}.storage.replication.factor": "1" for topic in topics},
            **{f"{topic}.storage.partitions": "1" for topic in topics[1:]},
            "key.converter": JSON,
            "value.converter": JSON,
            "plugin.path": ",".join(str(plugin.folder.parent) for plugin in PLUGINS),
            "plugin.discovery": "service_load",
            "config.providers": "file,env",
            "config.providers.file.class": f"{PROVIDERS}.FileConfigProvider",
            "config.providers.env.class": f"{PROVIDERS}.EnvVarConfigProvider",
            "connector.client.config.override.policy": "All",
            "offset.flush.interval.ms": "1000",
            "session.timeout.ms": "6000",
            "heartbeat.interval.ms": "1500",
            "scheduled.rebalance.max.delay.ms": "2000",
            **self.settings,
        }

    def start(self) -> Self:
        """Start all workers and wait until each answers."""
        for worker in self.workers:
            worker.launch()
        for worker in self.workers:
            worker.wait()
        return self

    def kill(self) -> None:
        """End all at once."""
        for worker in self.workers:
            worker.kill()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, *_: object) -> None:
        self.kill()


@pytest.fixture(scope="session")
def connect(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConnectWorkers]:
    """Two workers for all tests; name connectors so that tests do not meet, and leave both running."""
    with ConnectWorkers(tmp_path_factory.mktemp("connect"), kafka.bootstrap) as workers:
        yield workers
