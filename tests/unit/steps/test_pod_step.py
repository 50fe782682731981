"""What goes before and after a container: data in, data out, exit codes, last words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from airflow_mlplatform.specs.etl import FilesSource
from airflow_mlplatform.steps.file_list import Part, list_files, read_part
from airflow_mlplatform.steps.files import read_files
from airflow_mlplatform.steps.pod_step import ORDER
from airflow_mlplatform.steps.staging import Staging
from tests.services.etl_parts import Site, site

__all__ = ["site"]

CODE = """
import sys
from pathlib import Path
from airflow_mlplatform.steps import pod_step
from airflow_mlplatform.steps.staged_{0} import {1} as step
code = pod_step.main(step, Path(sys.argv[1]))
assert not [name for name in sys.modules if name == "airflow" or name.startswith("airflow.")]
sys.exit(code)
"""
STEPS = {"input": "bring", "output": "take_away"}


def run(site: Site, name: str, **order: Any) -> tuple[int, str]:
    given = {"staging": str(site.folder / "staging"), "dag_id": "dag", "run_id": "run-1", **order}
    result = site.folder / "termination-log"
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(name, STEPS[name]), str(result)],
        env={"PATH": os.environ["PATH"], ORDER: json.dumps(given), **aws()},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.exists(), done.stderr
    return done.returncode, result.read_text()


def aws() -> dict[str, str]:
    return {"AWS_EC2_METADATA_DISABLED": "true"}


def work(site: Site, name: str) -> Path:
    path = site.folder / "pod" / name
    path.parent.mkdir(exist_ok=True)
    return path


def stage(site: Site) -> None:
    (site.folder / "src/x.csv").write_text("id,name\n1,a\n2,b\n")
    with site.bench() as bench:
        Staging(str(site.folder / "staging"), bench).put("extract", read_files(FilesSource(uri="x.csv"), bench))


def staged(site: Site, task: str) -> list[tuple[Any, ...]]:
    with site.bench() as bench:
        return bench.engine.rows(Staging(str(site.folder / "staging"), bench).get(task).query)


def test_in_and_out(site: Site) -> None:
    stage(site)
    path = work(site, "input.parquet")
    code, message = run(site, "input", task="extract", path=str(path))
    assert code == 0, message
    assert pq.read_table(path).to_pydict() == {"id": [1, 2], "name": ["a", "b"]}
    path.write_bytes(b"scribble")  # what a container does to its input reaches nobody
    assert staged(site, "extract") == [(1, "a"), (2, "b")]

    target = work(site, "output.parquet")
    duckdb.sql(f"COPY (SELECT 7 AS n) TO '{target}'")
    code, message = run(site, "output", task="clean", path=str(target))
    assert code == 0
    assert set(json.loads(message)) == {"uri", "rows", "bytes", "schema_hash"}
    assert json.loads(message)["rows"] == 1
    assert staged(site, "clean") == [(7,)]


def test_parts_become_one_file_and_a_part_stays_one(site: Site) -> None:
    for number in range(4):
        (site.folder / f"src/{number}.csv").write_text(f"id\n{number}\n")
    source = FilesSource(uri="*.csv")
    with site.bench() as bench:
        staging = Staging(str(site.folder / "staging"), bench)
        files = list_files(source, 3, bench)
        staging.put_list("list", files)
        parts = [Part(**told) for told in files.told()]
        for part in parts:
            staging.put_part("extract", part, read_part(source, files, part.part, bench))
    path = work(site, "input.parquet")
    assert run(site, "input", task="extract", listing="list", path=str(path))[0] == 0
    assert pq.read_table(path)["id"].to_pylist() == [0, 1, 2, 3]
    assert run(site, "input", task="extract", part=files.told()[2], path=str(path))[0] == 0
    assert pq.read_table(path)["id"].to_pylist() == [2, 3]
    assert run(site, "output", task="clean", part=files.told()[2], path=str(path))[0] == 0
    with site.bench() as bench:
        assert bench.engine.rows(Staging(str(site.folder / "staging"), bench).get_part("clean", parts[2]).query) == [
            (2,),
            (3,),
        ]


def test_a_folder_of_parquet_files_is_an_output(site: Site) -> None:
    folder = work(site, "output.parquet")
    (folder / "shop=a").mkdir(parents=True)
    (folder / "shop=b").mkdir()
    for number, shop in enumerate("ab"):
        duckdb.sql(f"COPY (SELECT {number} AS id) TO '{folder}/shop={shop}/x.parquet' (FORMAT parquet)")
    (folder / "_SUCCESS").write_text("")
    (folder / "shop=a/.x.parquet.crc").write_bytes(b"crc")
    code, message = run(site, "output", task="clean", path=str(folder))
    assert code == 0, message
    assert sorted(staged(site, "clean")) == [(0, "a"), (1, "b")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, r"wrote nothing to $OUTPUT"),
        (b"", "is no Parquet file, or not a whole one"),
        (b"id\n1\n", "is no Parquet file, or not a whole one"),
        (b"PAR1 a file that was cut off", "is no Parquet file, or not a whole one"),
        (b"PAR1 with both ends but no sense PAR1", "output.parquet"),
    ],
)
def test_what_is_no_parquet_is_a_mistake(site: Site, content: bytes | None, reason: str) -> None:
    target = work(site, "output.parquet")
    if content is not None:
        target.write_bytes(content)
    code, message = run(site, "output", task="clean", path=str(target))
    assert code == os.EX_CONFIG
    assert reason in message


def test_a_folder_without_files_or_with_others_is_a_mistake(site: Site) -> None:
    folder = work(site, "output.parquet")
    folder.mkdir()
    assert "is a folder without files" in run(site, "output", task="clean", path=str(folder))[1]
    (folder / "x.csv").write_text("id\n1\n")
    code, message = run(site, "output", task="clean", path=str(folder))
    assert code == os.EX_CONFIG
    assert "x.csv is no Parquet file" in message


def test_mistakes_and_outages_have_codes_of_their_own(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(work(site, "input.parquet"))
    code, message = run(site, "input", task="extract", path=path)
    assert (code, "has staged nothing" in message) == (os.EX_CONFIG, True)
    code, message = run(site, "input", task="extract", path=path, unheard_of=1)
    assert (code, "need the same version of this package" in message) == (os.EX_CONFIG, True)
    monkeypatch.setitem(globals(), "aws", lambda: {
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s3cr3t", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"
    })  # fmt: skip
    code, message = run(site, "input", task="extract", path=path, staging="s3://staging")
    assert (code, "a retry may help" in message) == (os.EX_TEMPFAIL, True)
    assert "s3cr3t" not in message


def test_sigterm_ends_it_at_once(site: Site) -> None:
    query = "SELECT count(*) FROM range(10000000000000) t(i) WHERE md5(i::VARCHAR) = ''"
    slow = f"""
import duckdb
from airflow_mlplatform.steps import pod_step

def work(order, storage):
    print("ready", flush=True)
    duckdb.sql("{query}").fetchall()

pod_step.main(work)
"""
    order = {"staging": str(site.folder), "dag_id": "d", "run_id": "r", "task": "t", "path": str(work(site, "x"))}
    process = subprocess.Popen(
        [sys.executable, "-c", slow], env={**os.environ, ORDER: json.dumps(order)}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
