"""Inputs several times the memory of the task: the peak of a process of its own stays below its limit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.services.etl_parts import Site

MEBIBYTES = 512
CODE = """
import json, sys
from pathlib import Path
import airflow.sdk  # what a worker holds besides us
from benchmarks.etl import peak_mebibytes
from tests.services.etl_parts import Site, pipeline
task = json.loads(sys.argv[1])
with Site(Path(task["folder"]), {}).bench(memory=task["memory"]) as bench:
    result = pipeline(task["extract"], task["load"], task["transform"], task["checks"]).run(bench)
print(json.dumps({"rows": result.rows, "peak": peak_mebibytes()}))
"""
STREAM = """
import pyarrow as pa

def run(data: pa.RecordBatchReader):
    yield from data
"""
ROWS = 9_000_000
UNCOMPRESSED = 250  # bytes a row, at least


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parquet file of more than 2 GB once unpacked, small on disk."""
    file = tmp_path_factory.mktemp("big") / "big.parquet"
    text = "repeat(chr((range % 26)::INT + 97), 200) || range"
    with duckdb.connect(config={"memory_limit": "1GB"}) as connection:
        connection.execute(
            f"COPY (SELECT range AS id, hash(range) AS h, {text} AS text, range % 40 AS p, random() AS x, "
            f"random() AS y FROM range({ROWS})) TO '{file}' (FORMAT parquet, COMPRESSION zstd)"
        )
        (size,) = connection.execute(f"SELECT sum(strlen(text) + 40) FROM '{file}'").fetchone() or (0,)
    assert size > 4 * MEBIBYTES * 2**20
    return file


@pytest.mark.slow
@pytest.mark.parametrize(
    ("transform", "checks", "load"),
    [
        ([{"sql": "SELECT *, x * y AS z FROM input"}], {"not_null": ["id"], "unique": ["id"]}, "pond://x.parquet"),
        ([{"sql": "SELECT id, h, text FROM input ORDER BY h"}], None, "pond://x"),
        ([{"python": "stream:run"}], None, "pond://x.parquet"),
        ([], None, {"uri": "pond://x", "partition_by": ["p"]}),
    ],
    ids=["checks", "sort", "python", "partitioned"],
)
def test_peak_stays_below_the_limit(source: Path, tmp_path: Path, transform: Any, checks: Any, load: Any) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/stream.py").write_text(STREAM)
    task = {
        "folder": str(tmp_path), "memory": f"{MEBIBYTES}Mi", "extract": {"files": {"uri": str(source)}},
        "transform": transform, "checks": checks, "load": load,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(task)],
        cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    print(told)
    assert told["rows"] == ROWS
    assert told["peak"] < MEBIBYTES


SPLIT = """
import json, sys
from pathlib import Path
import airflow.sdk  # what a worker holds besides us
from benchmarks.etl import peak_mebibytes
from tests.services.etl_parts import Site
from tests.services.split_steps import SplitSteps
task = json.loads(sys.argv[1])
site = Site(Path(task["folder"]), {})
steps = SplitSteps(site, task["folder"] + "/staging", {"uri": task["uri"]}, task["load"], "run", task["memory"])
steps.do(task["step"])
print(json.dumps({"peak": peak_mebibytes()}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "load",
    [
        pytest.param({"uri": "pond://x"}, id="folder"),
        pytest.param({"uri": "pond://x.parquet"}, id="file", marks=pytest.mark.long),
        pytest.param({"uri": "pond://x", "partition_by": ["p"]}, id="partitioned", marks=pytest.mark.long),
    ],
)
def test_peak_of_split_files(source: Path, tmp_path: Path, load: dict[str, Any]) -> None:
    (tmp_path / "src").mkdir()
    for name in ("1", "2"):
        (tmp_path / f"src/{name}.parquet").hardlink_to(source)
    task = {
        "folder": str(tmp_path), "memory": f"{MEBIBYTES}Mi", "uri": str(tmp_path / "src/*.parquet"),
        "load": load,
    }  # fmt: skip
    for step in ("list", "extract:0", "extract:1", "load"):
        done = subprocess.run(
            [sys.executable, "-c", SPLIT, json.dumps({**task, "step": step})],
            cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        told = json.loads(done.stdout.splitlines()[-1])
        print(step, told)
        assert told["peak"] < MEBIBYTES
    with Site(tmp_path, {}).bench() as bench:
        place = bench.storage.locate(load["uri"])
        found = place.local if place.local.is_file() else place.local / "**/*.parquet"
        assert bench.engine.rows(f"SELECT count(*) FROM '{found}'") == [(2 * ROWS,)]
