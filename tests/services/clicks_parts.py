"""The example application of dag_specs/clicks as processes, and order events for it, against a real broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.services.ports import free_port
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable

APP = Path(__file__).parents[2] / "dag_specs" / "clicks" / "app"
PARTITIONS = 3


def change(op: str, before: dict[str, int] | None, after: dict[str, int] | None, at: int = 1) -> dict[str, Any]:
    """Return an event as Debezium writes it."""
    return {"op": op, "before": before, "after": after, "ts_ms": at, "source": {"table": "orders"}}


def order(number: int, customer: int, amount: int = 100) -> dict[str, int]:
    """Return a row of the table of orders."""
    return {"id": number, "customer_id": customer, "amount_cents": amount}


@dataclass
class Pipeline:
    """Two topics and the processes between them.

    :param bootstrap: address of the broker.
    :param name: names topics and group, so that tests do not meet.
    :param folder: where the processes' logs go.
    :param topics: the topic of orders and that of features, if they are there already.
    """

    bootstrap: str
    name: str
    folder: Path
    topics: tuple[str, str] | None = None
    apps: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)

    @property
    def orders(self) -> str:
        """Topic of the orders' changes."""
        return self.topics[0] if self.topics else f"{self.name}.orders"

    @property
    def features(self) -> str:
        """Topic of the features."""
        return self.topics[1] if self.topics else f"{self.name}.features"

    def make_topics(self, features: int = PARTITIONS) -> None:
        """Make both topics."""
        from airflow_mlplatform.clients.kafka_admin import KafkaAdmin

        admin = KafkaAdmin({"bootstrap.servers": self.bootstrap})
        admin.create(self.orders, PARTITIONS, 1, {}, dry_run=False)
        admin.create(self.features, features, 1, {"cleanup.policy": "compact"}, dry_run=False)

    def start(self) -> subprocess.Popen[bytes]:
        """Start one instance more."""
        port = free_port()
        environment = {
            **os.environ, "KAFKA_BROKERS": self.bootstrap, "ORDERS_TOPIC": self.orders, "FEATURES_TOPIC": self.features,
            "GROUP": self.name, "PORT": str(port), "HOSTNAME": f"{self.name}-{len(self.apps)}",
        }  # fmt: skip
        with self.log(len(self.apps)).open("wb") as log:
            app = subprocess.Popen([sys.executable, str(APP / "main.py")], env=environment, stdout=log, stderr=log)
        self.apps.append(app)
        self.ports.append(port)
        return app

    def log(self, number: int) -> Path:
        """Return the file with what an instance printed."""
        return self.folder / f"{self.name}-{number}.log"

    def get(self, number: int, path: str) -> tuple[int, str]:
        """Ask an instance over HTTP; status 0 if it does not answer."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.ports[number]}{path}", timeout=5)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text

    def wait_until_ready(self, number: int) -> None:
        """Wait until an instance is a member of its group."""
        wait_for(lambda: self.get(number, "/readyz")[0] == 200, f"until {self.log(number)} is ready")

    def send(self, changes: Iterable[dict[str, Any]]) -> None:
        """Write changes, keyed by customer, as Debezium is told to."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": "true"})
        for one in changes:
            owner = (one["after"] or one["before"])["customer_id"]
            producer.produce(self.orders, json.dumps(one).encode(), json.dumps({"customer_id": owner}).encode())
            producer.poll(0)
        assert producer.flush(60) == 0

    def result(self) -> tuple[dict[int, dict[str, int]], Counter[int]]:
        """Return the features that are committed, by customer, and how many messages told them."""
        from confluent_kafka import Consumer, KafkaError, TopicPartition

        consumer = Consumer({
            "bootstrap.servers": self.bootstrap, "group.id": "looks", "enable.partition.eof": "true",
            "isolation.level": "read_committed", "auto.offset.reset": "earliest", "enable.auto.commit": "false",
        })  # fmt: skip
        consumer.assign([TopicPartition(self.features, number, 0) for number in range(PARTITIONS)])
        rows: dict[int, dict[str, int]] = {}
        messages: Counter[int] = Counter()
        ended = 0
        while ended < PARTITIONS:
            message = consumer.poll(10)
            assert message is not None
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                ended += 1
                continue
            row = json.loads(message.value())["payload"]
            rows[row["customer_id"]] = row
            messages[row["customer_id"]] += 1
        consumer.close()
        return rows, messages

    def stop(self) -> None:
        """Kill whatever still runs."""
        for app in self.apps:
            app.kill()
            app.wait()
