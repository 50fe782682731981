"""Files that several tasks read, a part each: the same rows as one task would give, whoever is tried again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow.parquet as pq
import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.etl import FilesSource, Load
from airflow_mlplatform.steps.file_list import FileList, Part, list_files, read_part
from airflow_mlplatform.steps.files import read_files
from airflow_mlplatform.steps.staging import Staging, load_staged
from tests.services.etl_parts import Site, site

if TYPE_CHECKING:
    from airflow_mlplatform.steps.workbench import Workbench

__all__ = ["site"]


def put(site: Site, name: str, text: str) -> Path:
    path = site.folder / "src" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def staging(site: Site, bench: Workbench) -> Staging:
    return Staging(str(site.folder / "staging"), bench)


def stage_list(site: Site, source: FilesSource, parts: int = 3) -> list[Part]:
    with site.bench() as bench:
        listed = list_files(source, parts, bench)
        staging(site, bench).put_list("list", listed)
        return [Part(**told) for told in json.loads(json.dumps(listed.told()))]


def stage_part(site: Site, source: FilesSource, part: Part) -> None:
    with site.bench() as bench:
        files = staging(site, bench).get_list("list")
        staging(site, bench).put_part("extract", part, read_part(source, files, part.part, bench))


def stage(site: Site, source: FilesSource, parts: int = 3) -> list[Part]:
    told = stage_list(site, source, parts)
    for part in told:
        stage_part(site, source, part)
    return told


def whole(site: Site, sql: str = "SELECT * FROM input") -> list[tuple[Any, ...]]:
    with site.bench() as bench:
        table = staging(site, bench).get_parts("extract", "list").table()
        return bench.engine.rows(f"WITH input AS ({table.query}) {sql}")


def facts(site: Site) -> Any:
    with site.bench() as bench:
        return staging(site, bench).get_parts("extract", "list").facts


def load(site: Site, uri: str, **more: Any) -> Any:
    with site.bench() as bench:
        return load_staged(Load(uri=uri, **more), staging(site, bench), "extract", bench, "list")


def numbered(site: Site, *numbers: int) -> FilesSource:
    for number in numbers:
        put(site, f"raw/{number:03}.csv", f"id,day,name\n{number},2026-01-{number:02},n{number}\n")
    return FilesSource(uri="raw/*.csv")


# listing


def test_rows_come_in_the_order_that_one_task_would_give(site: Site) -> None:
    source = numbered(site, *range(1, 12))
    parts = stage(site, source, 4)
    assert [(part.part, part.of) for part in parts] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert sum(part.files for part in parts) == 11
    with site.bench() as bench:
        assert whole(site) == bench.engine.rows(read_files(source, bench).query)


def test_fewer_files_make_fewer_parts_and_none_is_an_error(site: Site) -> None:
    assert len(stage_list(site, numbered(site, 1, 2), 8)) == 2
    with pytest.raises(ConfigurationError, match=r"gone\*.csv: no file matches"):
        stage_list(site, FilesSource(uri="gone*.csv"))


def test_a_list_is_the_same_for_the_same_files(site: Site) -> None:
    source = numbered(site, 1, 2, 3)
    first = stage_list(site, source)
    assert stage_list(site, source) == first
    numbered(site, 4)
    assert stage_list(site, source)[0].listing != first[0].listing


def test_files_without_a_byte_are_left_out(site: Site) -> None:
    source = numbered(site, 1, 2)
    put(site, "raw/003.csv", "")
    assert sum(part.files for part in stage(site, source)) == 2
    assert len(whole(site)) == 2


def test_a_label_for_people() -> None:
    assert Part(0, 8, "x", 1, 999).label == "part 1 of 8: 1 file, 999 bytes"
    assert Part(7, 8, "x", 12, 1_234_567).label == "part 8 of 8: 12 files, 1.23 MB"


def test_a_retry_reads_the_files_that_were_listed(site: Site) -> None:
    source = numbered(site, 1, 2, 3)
    parts = stage_list(site, source)
    numbered(site, 0, 4)
    for part in parts:
        stage_part(site, source, part)
    assert [row[0] for row in whole(site)] == [1, 2, 3]


@pytest.mark.parametrize("change", ["touched", "replaced", "removed"])
def test_a_file_that_changed_since_is_a_mistake_that_says_what_to_do(site: Site, change: str) -> None:
    source = numbered(site, 1, 2, 3)
    parts = stage_list(site, source)
    file = site.folder / "src/raw/002.csv"
    if change == "touched":
        os.utime(file, ns=(1, 1))
    elif change == "replaced":
        put(site, "raw/new", "id,day,name\n9,2026-01-01,x\n").replace(file)
    else:
        file.unlink()
    stage_part(site, source, parts[0])
    with pytest.raises(ConfigurationError, match=r"002\.csv.* is not as it was when the files were listed; clear this"):
        stage_part(site, source, parts[1])


def test_hive_folders_have_one_type_in_all_parts(site: Site) -> None:
    for key in ("1", "2", "x"):
        put(site, f"raw/key={key}/day=2026-01-01/a.csv", "id\n1\n")
    source = FilesSource(uri="raw/**/*.csv")
    stage(site, source)
    assert dict(facts(site).columns) == {"id": "BIGINT", "day": "DATE", "key": "VARCHAR"}
    assert sorted(row[0] for row in whole(site, "SELECT key FROM input")) == ["1", "2", "x"]


def test_a_folder_that_a_load_made(site: Site) -> None:
    put(site, "x.csv", "id,p,n\n1,a,\n2,b,5\n3,,7\n")
    site.run({"files": {"uri": "x.csv"}}, {"uri": "pond://wine", "partition_by": ["p"]})
    stage(site, FilesSource(uri="pond://wine"))
    assert facts(site).columns == (("id", "BIGINT"), ("p", "VARCHAR"), ("n", "BIGINT"))
    assert whole(site, "FROM input ORDER BY id") == [(1, "a", None), (2, "b", 5), (3, None, 7)]


def test_a_load_that_was_replaced_since_is_told(site: Site) -> None:
    put(site, "x.csv", "id,p\n1,a\n2,b\n")
    load_ = {"uri": "pond://wine", "partition_by": ["p"]}
    site.run({"files": {"uri": "x.csv"}}, load_)
    source = FilesSource(uri="pond://wine")
    parts = stage_list(site, source)
    site.run({"files": {"uri": "x.csv"}}, load_, run="another")
    with pytest.raises(ConfigurationError, match="clear this run from the task that lists them on"):
        stage_part(site, source, parts[0])


def test_the_list_survives_json(site: Site) -> None:
    put(site, "raw/a b=ü/1,2.csv", "id\n1\n")
    with site.bench() as bench:
        listed = list_files(FilesSource(uri="raw/**/*.csv"), 2, bench)
        assert FileList.from_json(listed.to_json()) == listed


# parts together


def test_columns_are_matched_by_name_and_missing_ones_are_null(site: Site) -> None:
    put(site, "1.csv", "id,name\n1,x\n")
    put(site, "2.csv", "NAME,id,late\ny,2,new\n")
    stage(site, FilesSource(uri="*.csv"))
    assert facts(site).columns == (("id", "BIGINT"), ("name", "VARCHAR"), ("late", "VARCHAR"))
    assert whole(site) == [(1, "x", None), (2, "y", "new")]


def test_numbers_and_times_become_the_wider_type(site: Site) -> None:
    put(site, "1.csv", "n,t\n1,2026-01-01\n")
    put(site, "2.csv", "n,t\n1.5,2026-01-02 10:00:00\n")
    stage(site, FilesSource(uri="*.csv"))
    assert [kind for _, kind in facts(site).columns] == ["DOUBLE", "TIMESTAMP"]
    assert whole(site, "SELECT sum(n) FROM input") == [(2.5,)]


def test_a_column_of_nothing_but_nulls_has_the_type_of_the_others(site: Site) -> None:
    put(site, "1.csv", "id,n\n1,\n")
    put(site, "2.csv", "id,n\n2,5\n")
    put(site, "3.csv", "id,n\n")
    stage(site, FilesSource(uri="*.csv"))
    assert facts(site).columns == (("id", "BIGINT"), ("n", "BIGINT"))
    assert whole(site) == [(1, None), (2, 5)]


def test_text_and_numbers_do_not_go_together(site: Site) -> None:
    put(site, "1.csv", "code\n1.50\n")
    put(site, "2.csv", "code\n7a\n")
    stage(site, FilesSource(uri="*.csv"))
    with pytest.raises(
        ConfigurationError,
        match=r"column 'code' is DOUBLE in part 1, VARCHAR in part 2; give its type.*columns: \{code: TYPE\}",
    ):
        whole(site)
    stage(site, FilesSource(uri="*.csv", columns={"code": "VARCHAR"}))
    assert whole(site) == [("1.50",), ("7a",)]


def test_parts_of_an_earlier_list_do_not_count(site: Site) -> None:
    source = numbered(site, *range(1, 9))
    stage(site, source, 8)
    for number in range(3, 9):
        (site.folder / f"src/raw/{number:03}.csv").unlink()
    parts = stage_list(site, source, 8)
    with pytest.raises(ConfigurationError, match=r"task extract\[0\] has staged nothing"):
        whole(site)
    for part in parts:
        stage_part(site, source, part)
    assert [row[0] for row in whole(site)] == [1, 2]


def test_a_part_that_is_staged_again_replaces_the_former(site: Site) -> None:
    source = numbered(site, 1, 2)
    parts = stage(site, source)
    stage_part(site, source, parts[0])
    assert [row[0] for row in whole(site)] == [1, 2]


# loads


@pytest.mark.parametrize(
    ("uri", "more"), [("pond://x.parquet", {}), ("pond://x", {}), ("pond://x", {"partition_by": ["name"]})]
)
def test_loads(site: Site, uri: str, more: dict[str, Any]) -> None:
    stage(site, numbered(site, *range(1, 8)))
    result = load(site, uri, **more)
    assert result.rows == 7
    assert site.rows(uri, "SELECT id FROM input ORDER BY id") == [(number,) for number in range(1, 8)]
    assert result.schema_hash == facts(site).schema_hash
    with site.bench() as bench:
        staging(site, bench).remove(["list", "extract"])
    assert load(site, uri, **more) == result  # cleared alone after it was done
    assert not list((site.folder / "staging").iterdir())


def test_a_folder_is_loaded_without_merging_and_all_files_have_the_same_columns(site: Site) -> None:
    put(site, "1.csv", "id,n\n1,1\n")
    put(site, "2.csv", "n,id\n1.5,2\n")
    put(site, "3.csv", "id,n\n")
    stage(site, FilesSource(uri="*.csv"))
    load(site, "pond://x")
    files = sorted((site.folder / "pond/x").glob("*.parquet"))
    assert len(files) == 2  # none for the part without rows
    assert len({str(pq.read_schema(file).remove_metadata()) for file in files}) == 1
    assert site.rows("pond://x") == [(1, 1.0), (2, 1.5)]
    assert duckdb.sql(f"SELECT count(*) FROM '{site.folder}/pond/x/*.parquet'").fetchall() == [(2,)]


def test_parts_without_rows(site: Site) -> None:
    for number in (1, 2):
        put(site, f"{number}.csv", "id,n\n")
    stage(site, FilesSource(uri="*.csv"))
    for uri, more in (("pond://x", {}), ("pond://y.parquet", {}), ("pond://z", {"partition_by": ["n"]})):
        assert load(site, uri, **more).rows == 0
        assert site.rows(uri) == []


def test_what_the_load_needs_is_told_if_it_is_gone(site: Site) -> None:
    with pytest.raises(ConfigurationError, match=r"task list has staged nothing.*clear this run from the extract task"):
        load(site, "pond://x")
