"""Sources, loads and staging on a real S3."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_mlplatform.exceptions import ConfigurationError, ServiceRefused, ServiceUnavailable
from airflow_mlplatform.specs.etl import FilesSource
from airflow_mlplatform.steps.engine import Stopped
from airflow_mlplatform.steps.files import read_files
from airflow_mlplatform.steps.publish import published
from airflow_mlplatform.steps.staging import Staging, load_staged
from tests.services.etl_parts import Site, bucket, minio, objects, pipeline, s3_site

if TYPE_CHECKING:
    from airflow_mlplatform.steps.storage import Location

__all__ = ["bucket", "minio", "s3_site"]


def put(bucket: Location, name: str, text: str) -> None:
    with bucket.filesystem.open_output_stream(f"{bucket.path}/{name}") as stream:
        stream.write(text.encode())


def test_patterns_and_types_as_on_disk(s3_site: Site, bucket: Location) -> None:
    for name in ("raw/a.csv", "raw/x/b.csv", "raw/x/y/c.csv", "raw/.hidden.csv", "raw/notes.txt"):
        put(bucket, name, "id,day,code\n1,2026-01-01,x\n")
        local = s3_site.folder / "src" / name
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_text("id,day,code\n1,2026-01-01,x\n")
    for pattern in ("raw/*.csv", "raw/**/*.csv", "raw/x/*.csv", "raw/[a-b].csv", "raw/x/y/c.csv", "raw/x"):
        assert s3_site.rows(f"{bucket.uri}/{pattern}") == s3_site.rows(pattern), pattern
    with pytest.raises(ConfigurationError, match=r"raw/\*\.json: no file matches"):
        s3_site.rows(f"{bucket.uri}/raw/*.json")


def test_partitioned_load_and_reload(s3_site: Site, bucket: Location) -> None:
    put(bucket, "raw/a.csv", "id,p\n1,a/b\n2,\n3,ü =\n")
    load = {"uri": "pond://wine", "partition_by": ["p"]}
    for run in ("run-1", "run-2", "run-2"):
        result = s3_site.run({"files": {"uri": f"{bucket.uri}/raw/a.csv"}}, load, run=run)
        assert s3_site.rows("pond://wine", "SELECT * FROM input ORDER BY id") == [(1, "a/b"), (2, None), (3, "ü =")]
        assert len(objects(bucket / "pond/wine")) == 4
    put(bucket, "pond/wine/p=a%2Fb/part-00000000-000000000000-0.parquet", "a load in the making")
    assert s3_site.rows("pond://wine/p=a%2Fb") == s3_site.rows("pond://wine/p=a%2Fb/*.parquet") == [(1,)]
    assert (result.uri, result.rows) == (f"{bucket.uri}/pond/wine", 3)


def test_staging_on_s3(s3_site: Site, bucket: Location) -> None:
    put(bucket, "raw/a.csv", "id\n1\n")
    load = pipeline({"files": {"uri": "x"}}, "pond://wine.parquet").load
    with s3_site.bench() as bench:
        staging = Staging(f"{bucket.uri}/staging", bench)
        staging.put("extract", read_files(FilesSource(uri=f"{bucket.uri}/raw/a.csv"), bench))
        assert objects(bucket / "staging") == ["dag/run-1/extract.parquet"]
        result = load_staged(load, staging, "extract", bench)
        staging.remove(["extract"])
        assert objects(bucket / "staging") == []
        assert load_staged(load, staging, "extract", bench) == result
    with s3_site.bench("run-2") as bench:
        assert published(load, bench) is None


def test_refusals_and_outages(s3_site: Site, bucket: Location) -> None:
    wrong = replace(s3_site, logins={"pond": replace(s3_site.logins["pond"], password="t0tally-wrong")})
    down = replace(
        s3_site, logins={"pond": replace(s3_site.logins["pond"], extra={"endpoint_url": "http://127.0.0.1:1"})}
    )
    put(bucket, "raw/a.csv", "id\n1\n")
    for site, uri, error in (
        (wrong, f"{bucket.uri}/raw/a.csv", ServiceRefused),
        (down, f"{bucket.uri}/raw/a.csv", ServiceUnavailable),
        (s3_site, "s3://no-such-bucket/x/", (ConfigurationError, ServiceRefused)),
    ):
        with pytest.raises(error) as caught:
            site.rows(uri)
        assert "t0tally" not in str(caught.value)
    with pytest.raises(ServiceRefused):
        s3_site.run({"files": {"uri": f"{bucket.uri}/raw/a.csv"}}, "s3://no-such-bucket/x.parquet")


def test_a_connection_of_the_spec_wins(s3_site: Site, bucket: Location) -> None:
    put(bucket, "raw/a.csv", "id\n1\n")
    site = replace(
        s3_site,
        logins={
            **s3_site.logins,
            "pond": replace(s3_site.logins["pond"], password="wrong"),
            "own": s3_site.logins["pond"],
        },
    )
    source = {"files": {"uri": f"{bucket.uri}/raw/a.csv", "connection": "own"}}
    assert site.run(source, {"uri": f"{bucket.uri}/x.parquet", "connection": "own"}).rows == 1


def test_interrupt_stops_a_download(s3_site: Site, bucket: Location) -> None:
    put(bucket, "raw/a.csv", "id,text\n" + f"1,{'x' * 1000}\n" * 60_000)
    with s3_site.bench() as bench:
        bench.engine.interrupt()
        with pytest.raises(Stopped):
            read_files(FilesSource(uri=f"{bucket.uri}/raw/a.csv"), bench)
    assert threading.active_count() < 50
