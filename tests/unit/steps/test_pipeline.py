"""Files in, transforms, checks, Parquet out: everything that needs no service."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from airflow_mlplatform.exceptions import CheckFailed, ConfigurationError, UnsupportedHere
from airflow_mlplatform.specs.etl import FilesSource
from airflow_mlplatform.steps.engine import literal
from airflow_mlplatform.steps.files import read_files
from airflow_mlplatform.steps.publish import published
from airflow_mlplatform.steps.staging import Staging, load_staged
from tests.services.etl_parts import Site, pipeline, site

__all__ = ["site"]


def put(site: Site, name: str, text: str | bytes) -> None:
    path = site.folder / "src" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def files(uri: str, **more: Any) -> dict[str, Any]:
    return {"files": {"uri": uri, **more}}


def read(site: Site, uri: str, **more: Any) -> list[tuple[Any, ...]]:
    with site.bench() as bench:
        return bench.engine.rows(read_files(FilesSource(uri=uri, **more), bench).query)


def columns(site: Site, uri: str) -> tuple[tuple[str, str], ...]:
    with site.bench() as bench:
        return bench.engine.columns(read_files(FilesSource(uri=uri), bench).query)


# sources


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", "a,b\n1,x\n2,y\n"),
        ("x.tsv", "a\tb\n1\tx\n2\ty\n"),
        ("x.csv.gz", gzip.compress(b"a,b\n1,x\n2,y\n")),
        ("plain-though-it-says.csv.gz", "a,b\n1,x\n2,y\n"),
        ("x.json", '{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n'),
        ("list.json", '[{"a":1,"b":"x"},{"a":2,"b":"y"}]'),
        ("x.jsonl", '{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n'),
        ("x.ndjson.gz", gzip.compress(b'{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n')),
        ("it's a name.csv", "a,b\n1,x\n2,y\n"),
    ],
)
def test_formats(site: Site, name: str, content: str | bytes) -> None:
    put(site, name, content)
    assert read(site, name) == [(1, "x"), (2, "y")]


def test_columns_are_matched_by_name(site: Site) -> None:
    put(site, "1.csv", "a,b\n1,x\n")
    put(site, "2.csv", "b,a,c\ny,2,new\n")
    assert read(site, "*.csv") == [(1, "x", None), (2, "y", "new")]


@pytest.mark.parametrize("name", ["x.csv", "x.json"])
def test_given_types(site: Site, name: str) -> None:
    put(site, name, "code,day\n007,2026-01-01\n" if name == "x.csv" else '{"code":"007","day":"2026-01-01"}')
    assert read(site, name, columns={"code": "VARCHAR", "day": "VARCHAR"}) == [("007", "2026-01-01")]


def test_a_wrong_guess_says_how_to_give_types(site: Site) -> None:
    put(site, "x.csv", "a\n" + "1\n" * 50_000 + "x\n")
    with pytest.raises(ConfigurationError, match="x"):
        site.run(files("x.csv"), "pond://x.parquet")


def test_mixed_formats_are_refused(site: Site) -> None:
    put(site, "a.csv", "a\n1\n")
    put(site, "b.json", "{}")
    with pytest.raises(ConfigurationError, match=r"cannot be told from the names \(\.csv, \.json\); add format"):
        read(site, "*")


def test_hive_folders_are_columns_only_below_the_pattern(site: Site) -> None:
    for day in (1, 2):
        put(site, f"env=prod/day={day}/x.csv", f"a\n{day}0\n")
    assert read(site, "env=prod/**/*.csv") == [(10, 1), (20, 2)]
    assert read(site, "env=prod/day=1/x.csv") == [(10,)]


# transforms


def test_sql_sees_the_result_so_far_and_all_sources(site: Site) -> None:
    put(site, "orders.csv", "id,item,n\n1,a,2\n2,b,3\n")
    put(site, "items.csv", "item,price\na,10\nb,20\n")
    result = site.run(
        [{"name": "orders", **files("orders.csv")}, {"name": "items", **files("items.csv")}],
        "pond://joined.parquet",
        [
            {"sql": "SELECT o.id, o.n * i.price AS total FROM orders o JOIN items i USING (item) ORDER BY id; -- done"},
            {
                "sql": "WITH input AS (SELECT * FROM input WHERE total > 20) "
                "SELECT *, (SELECT count(*) FROM items) k FROM input"
            },
            {"sql": "FROM input SELECT id, total + k AS total"},
        ],
    )
    assert (result.rows, site.rows("pond://joined.parquet")) == (1, [(2, 62)])


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT nope FROM input", r'transform 1 \(sql\): Binder Error.*"nope" not found'),
        ("SELCT 1", r"transform 1 \(sql\): Parser Error"),
        ("SELECT 1; SELECT 2", "has 2 statements"),
        ("-- nothing", "has 0 statements"),
        ("COPY input TO 'x.csv'", "is COPY, not a SELECT"),
        ("DROP TABLE input", "is DROP, not a SELECT"),
        ("SELECT * FROM elsewhere", "elsewhere"),
    ],
)
def test_sql_that_cannot_work(site: Site, sql: str, reason: str) -> None:
    put(site, "x.csv", "a\n1\n")
    with pytest.raises(ConfigurationError, match=reason):
        site.run(files("x.csv"), "pond://x.parquet", [{"sql": sql}])
    assert not (site.folder / "pond").exists()


PYTHON = """
from __future__ import annotations
import pyarrow as pa
import pyarrow.compute as pc
from helper import FACTOR

def table(data):
    assert isinstance(data, pa.Table)
    return data.append_column("b", pc.multiply(data["a"], FACTOR))

def reader(data: pa.RecordBatchReader) -> pa.RecordBatchReader:
    assert isinstance(data, pa.RecordBatchReader)
    return data

def generator(data: pa.RecordBatchReader):
    for batch in data:
        yield batch
        yield batch

def batch(data):
    return data.to_batches()[0]

def frame(data):
    return data.to_pandas()

def empty(data):
    return iter(())

def text(data):
    return "oops"

def texts(data):
    return ["oops"]

def fails(data: pa.RecordBatchReader):
    for batch in data:
        raise KeyError("customer")
        yield batch
"""


@pytest.fixture
def code(site: Site) -> Site:
    put(site, "x.csv", "a\n1\n2\n")
    put(site, "features/clean.py", PYTHON)
    put(site, "helper.py", "FACTOR = 10\n")
    return site


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("table", [(1, 10), (2, 20)]),
        ("reader", [(1,), (2,)]),
        ("generator", [(1,), (1,), (2,), (2,)]),
        ("batch", [(1,), (2,)]),
        ("frame", [(1,), (2,)]),
    ],
)
def test_python(code: Site, name: str, expected: list[Any]) -> None:
    code.run(files("x.csv"), "pond://x.parquet", [{"python": f"features.clean:{name}"}])
    assert sorted(code.rows("pond://x.parquet")) == expected
    assert str(code.folder / "src") not in sys.path


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("features.clean:nope", r"has no function nope; there: table, reader"),
        ("features.gone:run", r"cannot import features\.gone"),
        ("features.clean:text", "returned str; return a pyarrow Table"),
        ("features.clean:texts", "gave str among its batches"),
        ("features.clean:empty", "gave no batch, so its columns are not known"),
    ],
)
def test_python_that_cannot_work(code: Site, target: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        code.run(files("x.csv"), "pond://x.parquet", [{"python": target}])


def test_errors_of_python_come_out_as_raised(code: Site) -> None:
    with pytest.raises(KeyError, match="customer"):
        code.run(files("x.csv"), "pond://x.parquet", [{"python": "features.clean:fails"}])


def test_each_spec_has_its_own_modules(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        site = Site(folder, {})
        put(site, "x.csv", "a\n1\n")
        put(site, "prep.py", f"def run(data):\n    return data.slice(0, 0) if {number} == 2 else data\n")
        assert site.run(files("x.csv"), "pond://x.parquet", [{"python": "prep:run"}]).rows == 2 - number


def test_containers_need_kubernetes(site: Site) -> None:
    with pytest.raises(UnsupportedHere, match="transform 1: a container .*needs Kubernetes"):
        site.run(files("gone.csv"), "pond://x.parquet", [{"container": {"image": "busybox"}}])


# checks


def test_all_failed_checks_are_told_together(site: Site) -> None:
    put(site, "x.csv", "id,name\n1,a\n1,\n2,b\n2,c\n2,\n")
    checks = {
        "rows": {"min": 10},
        "not_null": ["id", "name", "gone"],
        "unique": ["id", "name"],
        "sql": [
            {"name": "no twos", "query": "SELECT count(*) FROM input WHERE id = 2"},
            {"name": "sum", "query": "SELECT sum(id) FROM input", "expect": 8},
            {"name": "shape", "query": "SELECT 1, 2"},
            {"name": "broken", "query": "SELECT nope FROM input"},
        ],
    }
    with pytest.raises(CheckFailed) as caught:
        site.run(files("x.csv"), "pond://x.parquet", [], checks)
    message = str(caught.value)
    for expected in (
        "7 checks failed, nothing was loaded",
        "rows: 5, at least 10 wanted",
        "not_null name: 2 nulls, for example in (1, None); (2, None)",
        "not_null gone: there is no such column; there: id, name",
        "unique id: 2 values stand in 5 rows, for example 2 (3 times), 1 (2 times)",
        "no twos: gives 3, expected 0",
        "shape: the query must give one value but gives 2 columns",
        "broken: the query does not work",
    ):
        assert expected in message
    assert not (site.folder / "pond").exists()


def test_checks_that_hold(site: Site) -> None:
    put(site, "x.csv", "id,day\n1,2026-01-01\n2,2026-01-02\n")
    checks = {
        "rows": {"min": 2, "max": 2}, "not_null": ["ID"], "unique": ["id"],
        "sql": [
            {"name": "day", "query": "SELECT max(day) FROM input;", "expect": "2026-01-02"},
            {"name": "null", "query": "SELECT NULL", "expect": None},
            {"name": "decimal", "query": "SELECT 1.5", "expect": 1.5},
        ],
    }  # fmt: skip
    assert site.run(files("x.csv"), "pond://x.parquet", [], checks).rows == 2


# loads


def test_facts_of_a_load(site: Site) -> None:
    put(site, "x.csv", "a,b\n1,x\n")
    result = site.run(files("x.csv"), "pond://d/x.parquet", [{"sql": "SELECT *, sum(a) OVER () AS total FROM input"}])
    path = site.folder / "pond/d/x.parquet"
    assert (result.uri, result.rows, result.bytes) == (str(path), 1, path.stat().st_size)
    # 128-bit sums become integers, not doubles
    assert [str(kind) for kind in pq.read_schema(path).types] == ["int64", "string", "int64"]
    assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"
    other = site.run(files("x.csv"), "pond://e.parquet", [{"sql": "SELECT b, a, a AS total FROM input"}])
    assert other.schema_hash != result.schema_hash
    assert [name for name in os.listdir(path.parent) if name.startswith(".")] == []


SPECIAL = ["a/b", "ü =%x", "007", "..", "x\\ny", "", "[*]?", "2026-01-01", "__x", "a'b\"c", "a+b&c:d"]


def test_partition_values_survive(site: Site) -> None:
    duckdb.sql(
        f"COPY (SELECT unnest({literal(SPECIAL)}) AS p, range AS id, "
        f"DATE '2026-01-01' + range::INT AS day FROM range(1) "
        f"UNION ALL SELECT NULL, 99, NULL) TO '{site.folder}/src/x.parquet'"
    )
    before = site.rows(f"{site.folder}/src/x.parquet", "SELECT p, day, id FROM input ORDER BY ALL")
    result = site.run(files("x.parquet"), {"uri": "pond://wine", "partition_by": ["p", "day"]})
    assert result.rows == len(SPECIAL) + 1
    assert site.rows("pond://wine", "SELECT p, day, id FROM input ORDER BY ALL") == before
    assert dict(columns(site, "pond://wine")) == {"p": "VARCHAR", "id": "BIGINT", "day": "DATE"}


def test_other_programs_read_a_partitioned_load(site: Site) -> None:
    put(site, "x.csv", "a,p\n1,x\n2,y\n")
    site.run(files("x.csv"), {"uri": "pond://wine", "partition_by": ["p"]})
    found = pyarrow.dataset.dataset(site.folder / "pond/wine", partitioning="hive").to_table().sort_by("a")
    assert found.to_pydict() == {"a": [1, 2], "p": ["x", "y"]}


@pytest.mark.parametrize("load", ["pond://x.parquet", "pond://x", {"uri": "pond://x", "partition_by": ["a"]}])
def test_empty_results_keep_their_schema(site: Site, load: Any) -> None:
    put(site, "x.csv", "a,b\n1,x\n")
    full = site.run(files("x.csv"), load)
    empty = site.run(files("x.csv"), load, [{"sql": "SELECT * FROM input WHERE false"}])
    assert (empty.rows, empty.schema_hash) == (0, full.schema_hash)
    uri = load if isinstance(load, str) else load["uri"]
    assert site.rows(uri) == []
    assert columns(site, uri) == (("a", "BIGINT"), ("b", "VARCHAR"))


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        ({"uri": "pond://x", "partition_by": ["q"]}, "no column 'q' in the data; there: a, b"),
        ({"uri": "pond://x", "partition_by": ["a", "b"]}, "names all columns"),
    ],
)
def test_loads_that_cannot_work(site: Site, load: Any, reason: str) -> None:
    put(site, "x.csv", "a,b\n1,x\n")
    with pytest.raises(ConfigurationError, match=reason):
        site.run(files("x.csv"), load)


def test_a_load_inside_another_ones_folder_is_refused(site: Site) -> None:
    put(site, "x.csv", "a,b\n1,x\n")
    site.run(files("x.csv"), "pond://wine")
    with pytest.raises(ConfigurationError, match="lies inside another load's folder"):
        site.run(files("x.csv"), "pond://wine/day.parquet")


def test_a_load_may_read_what_it_replaces(site: Site) -> None:
    put(site, "x.csv", "a\n1\n")
    for uri in ("pond://wine", "pond://wine.parquet"):
        site.run(files("x.csv"), uri)
        for _ in range(3):
            site.run(files(uri), uri, [{"sql": "FROM input UNION ALL SELECT max(a) + 1 FROM input"}])
        assert site.rows(uri) == [(1,), (2,), (3,), (4,)]


def test_a_folder_of_loads_is_read_as_a_whole(site: Site) -> None:
    put(site, "x.csv", "a\n1\n")
    for day in (1, 2):
        for _ in range(2):
            site.run(files("x.csv"), f"pond://wine/{day}")
    assert site.rows("pond://wine") == [(1,), (1,)]
    assert site.rows("pond://wine/*/**") == [(1,), (1,)]


# staging


def test_staging_from_task_to_task(site: Site) -> None:
    put(site, "x.csv", "a\n1\n")
    load = pipeline(files("x.csv"), "pond://x.parquet").load
    base = str(site.folder / "staging")
    for attempt in range(2):  # a cleared run does it all again
        with site.bench("scheduled__2026-01-01T00:00:00+00:00/..") as bench:
            staging = Staging(base, bench)
            staging.put("group.extract", read_files(FilesSource(uri="x.csv"), bench))
            result = load_staged(load, staging, "group.extract", bench)
            again = load_staged(load, staging, "group.extract", bench)
            staging.remove(["group.extract"])
            assert again == result, attempt
    assert list(Path(base).iterdir()) == []


@pytest.mark.parametrize("uri", ["pond://x.parquet", "pond://x"])
def test_a_load_whose_staging_is_gone_finds_its_own_work(site: Site, uri: str) -> None:
    put(site, "x.csv", "a\n1\n")
    load = pipeline(files("x.csv"), uri).load
    with site.bench() as bench:
        staging = Staging(str(site.folder / "staging"), bench)
        staging.put("extract", read_files(FilesSource(uri="x.csv"), bench))
        result = load_staged(load, staging, "extract", bench)
        staging.remove(["extract"])
    with site.bench() as bench:
        staging = Staging(str(site.folder / "staging"), bench)
        assert load_staged(load, staging, "extract", bench) == result
    with site.bench("another run") as bench:
        assert published(load, bench) is None
        with pytest.raises(ConfigurationError, match="clear this run from the extract task on"):
            load_staged(load, Staging(str(site.folder / "staging"), bench), "extract", bench)
