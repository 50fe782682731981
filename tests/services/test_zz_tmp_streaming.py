from __future__ import annotations
from dataclasses import replace
import pytest
from tests.services.etl_parts import pipeline, site
from tests.services.kafka_parts import Clicks
@pytest.mark.parametrize("suffix", ["", ".parquet"])
def test_x(kafka, site, suffix):
    clicks = Clicks(kafka, site); clicks.create(2)
    for run in ("run-1", "run-2"):
        clicks.send([{"a": 1}, {"a": 2}, {"a": 3}])
        with site.bench(run) as bench:
            pipeline(clicks.source(), f"pond://x/y/{run}{suffix}").run(replace(bench, progress="pond://x/y"))
    rows = site.rows("pond://x/y", "select count(*), count(distinct (kafka_partition, kafka_offset)) from input")
    assert rows == [(6, 6)]
