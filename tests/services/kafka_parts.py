"""Topics, records and pipelines for the tests of ``extract.kafka``, and a schema registry that speaks the protocol."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from airflow_mlplatform.steps.login import Login
from tests.services.etl_parts import Site, pipeline
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlplatform.steps.workbench import Workbench
    from tests.services.kafka_broker import KafkaBroker

__all__ = ["Clicks", "SchemaRegistryServer", "schema_registry_server"]

OFFSETS = "select count(*), count(distinct (kafka_partition, kafka_offset)) from input"


@dataclass
class Clicks:
    """A topic of its own, and a pipeline that loads it."""

    broker: KafkaBroker
    site: Site
    topic: str = field(default_factory=lambda: f"clicks-{uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        login = Login("events", "kafka", extra={"bootstrap.servers": self.broker.bootstrap})
        self.site.logins.setdefault("events", login)
        self.admin = AdminClient({"bootstrap.servers": self.broker.bootstrap})

    def create(self, partitions: int = 2, **config: str) -> None:
        new = NewTopic(
            self.topic, partitions, 1, config={name.replace("_", "."): value for name, value in config.items()}
        )
        self.admin.create_topics([new], request_timeout=60)[self.topic].result(90)
        wait_for(lambda: self.partitions == partitions)

    def delete(self) -> None:
        self.admin.delete_topics([self.topic])[self.topic].result(30)
        wait_for(lambda: self.topic not in self.admin.list_topics(timeout=10).topics)

    def grow(self, partitions: int) -> None:
        self.admin.create_partitions([NewPartitions(self.topic, partitions)])[self.topic].result(30)
        wait_for(
            lambda: len(self.admin.list_topics(self.topic, timeout=10).topics[self.topic].partitions) == partitions
        )

    def producer(self, **config: Any) -> Producer:
        return Producer({"bootstrap.servers": self.broker.bootstrap, "linger.ms": 5, **config})

    def send(
        self, values: Any, *, partition: int | None = None, key: Any = None, producer: Any = None, **more: Any
    ) -> None:
        """Produce values: bytes, ``None`` or what JSON writes."""
        sender, partitions = producer or self.producer(), self.partitions
        for number, value in enumerate(values):
            data = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
            sender.produce(self.topic, data, key if key is not None else f"k{number}", number % partitions, **more)
        if producer is None:
            assert sender.flush(30) == 0

    @property
    def partitions(self) -> int:
        return len(self.admin.list_topics(self.topic, timeout=10).topics[self.topic].partitions)

    def source(self, **options: Any) -> dict[str, Any]:
        return {"kafka": {"connection": "events", "topic": self.topic, **options}}

    @contextmanager
    def bench(self, run: str, memory: str = "1Gi") -> Iterator[Workbench]:
        with self.site.bench(run, memory) as bench:
            yield replace(bench, progress="pond://clicks")

    def load(self, run: str, uri: str = "", transform: Any = (), checks: Any = None, **options: Any) -> Any:
        """Run a whole pipeline, as a fused spec does."""
        with self.bench(run) as bench:
            return pipeline(self.source(**options), uri or f"pond://clicks/{run}", transform, checks).run(bench)

    def rows(self, sql: str = "select * from input order by kafka_partition, kafka_offset") -> list[tuple[Any, ...]]:
        """What all runs have loaded together."""
        return self.site.rows("pond://clicks", sql)

    def loaded(self) -> tuple[int, int]:
        """How many rows all runs have loaded, and of how many different offsets."""
        (found,) = self.rows(OFFSETS)
        return found[0], found[1]


@dataclass
class SchemaRegistryServer:
    """What a schema registry answers."""

    subjects: dict[str, list[int]] = field(default_factory=dict)
    schemas: dict[int, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    down: bool = False
    url: str = ""

    def register(self, subject: str, schema: Any, **more: Any) -> int:
        number = len(self.schemas) + 1
        self.schemas[number] = {"schema": json.dumps(schema), **more}
        self.subjects.setdefault(subject, []).append(number)
        return number

    def answer(self, path: str, authorization: str | None) -> tuple[int, Any]:
        self.asked.append(path)
        if self.down:
            return 503, {"error_code": 50301}
        if authorization != "Basic cmVhZGVyOnMzY3JldA==":  # reader:s3cret
            return 401, {"error_code": 40101}
        match path.strip("/").split("/"):
            case ["schemas", "ids", number] if int(number) in self.schemas:
                return 200, self.schemas[int(number)]
            case ["subjects", subject, "versions", version] if subject in self.subjects:
                versions = self.subjects[subject]
                index = len(versions) if version == "latest" else int(version)
                number = versions[index - 1]
                return 200, {"subject": subject, "version": index, "id": number, **self.schemas[number]}
        return 404, {"error_code": 40401, "message": "not found"}


@contextmanager
def schema_registry_server() -> Iterator[SchemaRegistryServer]:
    """A schema registry of this process, which wants user ``reader`` and password ``s3cret``."""
    registry = SchemaRegistryServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, answer = registry.answer(self.path, self.headers.get("Authorization"))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    registry.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
