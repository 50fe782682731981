"""What ``extract.kafka`` costs against a bare consumer loop, and what the choice of the client brings.

Run it with ``python benchmarks/kafka_extract.py``; it needs Java and Maven, and starts a broker of its own. Each figure
is the best of some passes over the same topic; the variants take turns, so that a busy machine slows all of them. Goal:
extracts of JSON with declared columns reach at least 0.8 of the records a second of a bare loop of the same client with
the same settings.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, TypedDict

sys.path.insert(0, str(Path(__file__).parents[1]))

TOPIC = "clicks"
PARTITIONS = 6
RECORDS = 2_000_000
COLUMNS = {
    "id": "BIGINT", "user": "VARCHAR", "price": "DOUBLE", "at": "TIMESTAMP", "url": "VARCHAR", "ok": "BOOLEAN",
}  # fmt: skip
BARE = "confluent-kafka, bare loop"
BATCHES = "confluent-kafka, in batches"
VARIANTS = (
    BARE,
    BATCHES,
    "confluent-kafka, its defaults",
    "kafka-python, bare loop",
    "extract raw",
    "extract json",
    "extract json, guessed",
    "extract and load json",
)
GOAL = 0.8
IMPORTED = (
    "airflow_mlplatform.steps.kafka.source", "airflow_mlplatform.steps.pipeline", "confluent_kafka", "duckdb", "kafka",
    "pyarrow.compute", "pyarrow.fs", "pyarrow.parquet", "tests.services.etl_parts",
)  # fmt: skip


class Figures(TypedDict):
    """What one process tells."""

    records: int
    seconds: float
    cpu: float
    peak: float


def fill(bootstrap: str, records: int) -> None:
    """Produce records of about 130 bytes to all partitions; uncompressed, for kafka-python alone reads no lz4."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50})
    for number in range(records):
        value = {
            "id": number, "user": f"user{number % 5000}", "price": number % 997 / 7, "at": "2026-01-01T00:00:00Z",
            "url": f"https://example.org/{number}", "ok": number % 3 == 0,
        }  # fmt: skip
        while True:
            try:
                producer.produce(TOPIC, json.dumps(value), f"user{number % 5000}")
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def confluent(bootstrap: str, tuning: dict[str, Any]) -> Any:
    """Return a consumer that stands at the beginning of all partitions."""
    from confluent_kafka import Consumer, TopicPartition

    base = {
        "bootstrap.servers": bootstrap,
        "group.id": "bare",
        "enable.partition.eof": True,
        "enable.auto.commit": False,
    }
    consumer = Consumer({**base, "isolation.level": "read_committed", **tuning})
    consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
    return consumer


def bare_confluent(bootstrap: str, tuning: dict[str, Any]) -> int:
    """Poll until each partition has ended, looking at each value."""
    consumer = confluent(bootstrap, tuning)
    records = ended = 0
    while ended < PARTITIONS:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            ended += 1
        else:
            message.value()
            records += 1
    consumer.close()
    return records


def bare_batches(bootstrap: str, tuning: dict[str, Any]) -> int:
    """Do the same with batches as small as are fast."""
    consumer = confluent(bootstrap, tuning)
    records = ended = 0
    while ended < PARTITIONS:
        for message in consumer.consume(200, 1.0):
            if message.error():
                ended += 1
            else:
                message.value()
                records += 1
    consumer.close()
    return records


def bare_kafka_python(bootstrap: str) -> int:
    """Poll until all offsets have come, looking at each value."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, isolation_level="read_committed",
        max_poll_records=10_000,
    )  # fmt: skip
    partitions = [TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    left = sum(consumer.end_offsets(partitions).values())
    records = 0
    while records < left:
        for messages in consumer.poll(1000).values():
            for message in messages:
                len(message.value)
                records += 1
    consumer.close()
    return records


def extract(bootstrap: str, options: dict[str, Any], *, load: bool) -> int:
    """Read the topic as a spec does, and publish it if asked."""
    from airflow_mlplatform.specs.etl import Source
    from airflow_mlplatform.steps.kafka.source import read_kafka
    from airflow_mlplatform.steps.login import Login
    from tests.services.etl_parts import Site, pipeline

    source = {"kafka": {"connection": "events", "topic": TOPIC, **options}}
    login = Login("events", "kafka", extra={"bootstrap.servers": bootstrap})
    with tempfile.TemporaryDirectory() as folder, Site(Path(folder), {"events": login}).bench() as opened:
        bench = replace(opened, progress="pond://clicks")
        if load:
            return int(pipeline(source, "pond://clicks/run").run(bench).rows)
        found = Source.model_validate(source).kafka
        assert found is not None
        return int(bench.engine.rows(f"SELECT count(*) FROM ({read_kafka(found, bench).query})")[0][0])


def work(variant: str, bootstrap: str) -> None:
    """Run one variant in this process and print its figures; imports are not counted."""
    for module in IMPORTED:
        import_module(module)
    import pyarrow as pa
    from etl import peak_mebibytes

    from airflow_mlplatform.steps.kafka.config import TUNING

    pa.array([0])  # imports pandas, where that is installed
    began, used = time.perf_counter(), time.process_time()
    records = {
        BARE: lambda: bare_confluent(bootstrap, TUNING),
        BATCHES: lambda: bare_batches(bootstrap, TUNING),
        "confluent-kafka, its defaults": lambda: bare_confluent(bootstrap, {}),
        "kafka-python, bare loop": lambda: bare_kafka_python(bootstrap),
        "extract raw": lambda: extract(bootstrap, {"format": "raw"}, load=False),
        "extract json": lambda: extract(bootstrap, {"columns": COLUMNS}, load=False),
        "extract json, guessed": lambda: extract(bootstrap, {}, load=False),
        "extract and load json": lambda: extract(bootstrap, {"columns": COLUMNS}, load=True),
    }[variant]()
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    print(json.dumps(Figures(records=records, seconds=seconds, cpu=cpu, peak=peak_mebibytes())))


def measure(variant: str, bootstrap: str) -> Figures:
    """Run one variant in a fresh process."""
    command = [sys.executable, __file__, "--work", variant, bootstrap]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(bootstrap: str, rounds: int) -> float:
    """Print a line a variant; return the ratio of JSON extracts to the bare loop."""
    runs: dict[str, list[Figures]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant, done in runs.items():
            done.append(measure(variant, bootstrap))
    best = {variant: min(done, key=lambda one: one["seconds"]) for variant, done in runs.items()}
    for variant, one in best.items():
        ratio = best[BARE]["seconds"] / one["seconds"]
        speed = one["records"] / one["seconds"]
        print(f"{variant:<32}{speed:>12,.0f}{ratio:>8.2f}{one['cpu']:>8.2f}{one['peak']:>10.0f}")
    return best[BARE]["seconds"] / best["extract json"]["seconds"]


def main() -> None:
    """Start a broker, fill a topic, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="processes a figure (default 3)")
    parser.add_argument("--records", type=int, default=RECORDS, help=f"records in the topic (default {RECORDS:,})")
    parser.add_argument("--work", nargs=2, metavar=("VARIANT", "BOOTSTRAP"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return
    from tests.services.kafka_broker import KafkaBroker

    with tempfile.TemporaryDirectory() as folder, KafkaBroker(Path(folder) / "kafka") as broker:
        fill(broker.bootstrap, options.records)
        print(f"{'variant':<32}{'records/s':>12}{'ratio':>8}{'CPU s':>8}{'peak MiB':>10}")
        ratio = compare(broker.bootstrap, options.rounds)
    print(f"extract json against the bare loop: {ratio:.2f} (goal: {GOAL})")


if __name__ == "__main__":
    main()
