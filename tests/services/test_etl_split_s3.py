"""Split files on a real S3: what is listed, what changed since, and how much of it lies on this machine at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.etl import FilesSource
from airflow_mlplatform.steps.file_list import Part, list_files, read_part
from airflow_mlplatform.steps.parts import PartByPart
from airflow_mlplatform.steps.staging import Staging
from tests.services.etl_parts import Site, bucket, minio, objects, s3_site
from tests.services.split_steps import SplitSteps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from airflow_mlplatform.steps.storage import Location

__all__ = ["bucket", "minio", "s3_site"]


def put(bucket: Location, name: str, text: str) -> None:
    with bucket.filesystem.open_output_stream(f"{bucket.path}/{name}") as stream:
        stream.write(text.encode())


@pytest.fixture
def source(bucket: Location) -> FilesSource:
    for number in range(6):
        put(bucket, f"raw/day={number % 2}/{number}.csv", f"id\n{number}\n")
    put(bucket, "raw/notes.txt", "none of them")
    put(bucket, "raw/day=0/empty.csv", "")
    return FilesSource(uri=f"{bucket.uri}/raw/**/*.csv")


@pytest.mark.parametrize("uri", ["pond://all", "pond://all.parquet"])
def test_a_split_load(s3_site: Site, bucket: Location, source: FilesSource, uri: str) -> None:
    steps = SplitSteps(s3_site, f"{bucket.uri}/staging", source.model_dump(mode="json"), {"uri": uri}, "run-1")
    for step in ("list", "extract", "load"):
        steps.do(step)
    rows = [(0, 0), (2, 0), (4, 0), (1, 1), (3, 1), (5, 1)]
    assert s3_site.rows(uri, "SELECT id, day FROM input") == rows
    assert objects(bucket / "staging") == []


def test_a_part_reads_what_was_listed_or_says_that_it_changed(
    s3_site: Site, bucket: Location, source: FilesSource
) -> None:
    with s3_site.bench() as bench:
        files = list_files(source, 2, bench)
        assert [file.name for file in files.parts[0]] == ["day=0/0.csv", "day=0/2.csv", "day=0/4.csv"]
        put(bucket, "raw/day=0/9.csv", "id\n9\n")
        assert bench.engine.rows(read_part(source, files, 0, bench).query) == [(0, 0), (2, 0), (4, 0)]
        put(bucket, "raw/day=1/3.csv", "id\n33\n")
        with pytest.raises(ConfigurationError, match=r"day=1/3\.csv is not as it was when the files were listed"):
            read_part(source, files, 1, bench)
        bucket.filesystem.delete_file(f"{bucket.path}/raw/day=0/0.csv")
        with pytest.raises(ConfigurationError, match="is not as it was when the files were listed"):
            read_part(source, files, 0, bench)


def test_a_load_of_a_folder_holds_one_part_at_a_time(s3_site: Site, bucket: Location, source: FilesSource) -> None:
    with s3_site.bench() as bench:
        staging, files = Staging(f"{bucket.uri}/staging", bench), list_files(source, 4, bench)
        staging.put_list("list", files)
        for told in files.told():
            staging.put_part("extract", Part(**told), read_part(source, files, told["part"], bench))
    with s3_site.bench() as bench:
        staged = Staging(f"{bucket.uri}/staging", bench).get_parts("extract", "list")
        parts = PartByPart(bench, staged.facts, (), "0" * 12, staged)
        here: list[list[Path]] = []

        def uploaded(names: Sequence[str]) -> None:
            here.append(list(bench.engine.scratch.rglob("*.parquet")))
            parts.drop(folder, names)

        folder = bench.engine.fresh("load")
        folder.mkdir()
        manifest = parts.write(folder, uploaded)
    assert [len(files) for files in here] == [1, 1, 1, 1]
    assert (manifest.rows, len(manifest.files)) == (6, 4)
