"""Topics several times the memory of the task: the peak of a process of its own stays below its limit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.services.etl_parts import site
from tests.services.kafka_parts import Clicks

if TYPE_CHECKING:
    from tests.services.etl_parts import Site
    from tests.services.kafka_broker import KafkaBroker

__all__ = ["site"]

MEBIBYTES = 512
RECORDS = 750_000
SIZE = 3_000
PARTITIONS = 12
CODE = """
import json, sys
from dataclasses import replace
from pathlib import Path
import airflow.sdk  # what a worker holds besides us
from benchmarks.etl import peak_mebibytes
from airflow_mlplatform.steps.login import Login
from tests.services.etl_parts import Site, pipeline
task = json.loads(sys.argv[1])
login = Login("events", "kafka", extra={"bootstrap.servers": task["bootstrap"]})
with Site(Path(task["folder"]), {"events": login}).bench(memory=task["memory"]) as bench:
    bench = replace(bench, progress="pond://clicks")
    result = pipeline(task["extract"], "pond://clicks/r1").run(bench)
print(json.dumps({"rows": result.rows, "peak": peak_mebibytes()}))
"""


@pytest.mark.long
@pytest.mark.parametrize("options", [{"columns": {"id": "BIGINT", "text": "VARCHAR"}}, {}], ids=["declared", "guessed"])
def test_peak_stays_below_the_limit(kafka: KafkaBroker, site: Site, options: dict[str, Any]) -> None:
    assert RECORDS * SIZE > 4 * MEBIBYTES * 2**20
    clicks = Clicks(kafka, site)
    clicks.create(PARTITIONS)
    producer = clicks.producer(**{"compression.type": "lz4", "queue.buffering.max.kbytes": 65_536})
    for number in range(RECORDS):
        value = b'{"id": %d, "text": "%s"}' % (number, b"%09d" % number * (SIZE // 9))
        while True:
            try:
                producer.produce(clicks.topic, value, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0
    task = {
        "folder": str(site.folder), "bootstrap": kafka.bootstrap, "memory": f"{MEBIBYTES}Mi",
        "extract": clicks.source(**options),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(task)],
        cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    print(told)
    assert told["rows"] == RECORDS
    assert told["peak"] < MEBIBYTES
