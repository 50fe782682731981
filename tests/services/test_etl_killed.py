"""Loads that are killed: between any two lines, in the middle of an upload, while others read."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from tests.services.etl_parts import Site, bucket, minio, objects, s3_site, site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_mlplatform.steps.storage import Location

__all__ = ["bucket", "minio", "s3_site", "site"]

ROWS = 300


def generation(site: Site, number: int, rows: int = ROWS) -> dict[str, Any]:
    """A source of rows that all tell the same generation."""
    file = site.folder / f"generation-{number}.parquet"
    duckdb.sql(f"COPY (SELECT {number} AS generation, range AS id, range % 3 AS p FROM range({rows})) TO '{file}'")
    return {"files": {"uri": str(file)}}


class Dying:
    """A process that loads and dies at a line of our choice."""

    def __init__(self, site: Site, extract: Any, load: Any, module: str, run: str = "run-2") -> None:
        task = {
            "folder": str(site.folder), "pond": site.pond, "extract": extract, "load": load, "run": run,
            "module": module,
            "logins": {name: {**asdict(login), "extra": dict(login.extra)} for name, login in site.logins.items()},
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.services.dying_load", json.dumps(task)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def load(self, line: int) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def seen(site: Site, uri: str) -> list[tuple[Any, ...]]:
    return site.rows(uri, "SELECT generation, count(*), count(DISTINCT id) FROM input GROUP BY ALL")


def killed_everywhere(
    site: Site, load: dict[str, Any], module: str, step: int, entries: Callable[[], list[str]]
) -> list[int]:
    """Kill a load at each ``step``-th line; return how many entries lay there after each retry.

    After the death a reader sees all of the old or all of the new; after the retry all of the new.
    """
    old, new = generation(site, 1), generation(site, 2)
    dying = Dying(site, new, load, module)
    left = []
    for line in range(1, 10_000, step):
        site.run(old, load, run="run-1")
        outcome = dying.load(line)
        assert seen(site, load["uri"]) in ([(1, ROWS, ROWS)], [(2, ROWS, ROWS)])
        if outcome != "killed":
            assert outcome == "done"
            break
        site.run(new, load, run="run-2")
        assert seen(site, load["uri"]) == [(2, ROWS, ROWS)]
        left.append(len(entries()))
    dying.close()
    return left


FILE = {"uri": "pond://wine.parquet"}
FOLDER = {"uri": "pond://wine"}
PARTITIONED = {"uri": "pond://wine", "partition_by": ["p"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("load", "step", "entries"),
    [(FILE, 1, 1), (FOLDER, 2, 2), (PARTITIONED, 5, 2)],
    ids=["file", "folder", "partitioned"],
)
def test_a_local_load_killed_between_any_two_lines(site: Site, load: dict[str, Any], step: int, entries: int) -> None:
    left = killed_everywhere(site, load, "/publish_local.py", step, lambda: os.listdir(site.folder / "pond"))
    assert len(left) > 15
    assert set(left) == {entries}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("load", "step", "entries"),
    [(FILE, 1, 1), (FOLDER, 5, 2), (PARTITIONED, 9, 4)],
    ids=["file", "folder", "partitioned"],
)
def test_a_load_to_s3_killed_between_lines(
    s3_site: Site, bucket: Location, load: dict[str, Any], step: int, entries: int
) -> None:
    left = killed_everywhere(s3_site, load, "/publish_s3.py", step, lambda: objects(bucket))
    assert len(left) > (3 if load is FILE else 8)
    assert set(left) == {entries}


def test_scratch_of_killed_processes_is_removed(site: Site) -> None:
    dying = Dying(site, generation(site, 1), FILE, "/publish_local.py")
    assert dying.load(1) == "killed"
    dying.close()
    left = list((site.folder / "scratch").iterdir())
    assert left
    with site.bench() as bench:
        assert list((site.folder / "scratch").iterdir()) == [bench.engine.scratch]


class KillingProxy:
    """Passes bytes on to a server, and kills a process after some of them."""

    def __init__(self, target: tuple[str, int], limit: int) -> None:
        self._target, self._limit = target, limit
        self.victim = 0
        self.passed = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(self._target)
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(65_536):
                sink.sendall(data)
                self.passed += len(data) if counted else 0
                if self.victim and self.passed > self._limit:
                    os.kill(self.victim, signal.SIGKILL)
        except OSError:
            pass
        sink.close()


def test_killed_in_the_middle_of_an_upload(s3_site: Site, bucket: Location) -> None:
    address = s3_site.logins["pond"].extra["endpoint_url"].removeprefix("http://").split(":")
    proxy = KillingProxy((address[0], int(address[1])), 12_000_000)
    slow = replace(s3_site.logins["pond"], extra={"endpoint_url": f"http://127.0.0.1:{proxy.port}"})
    file = s3_site.folder / "big.parquet"
    duckdb.sql(f"COPY (SELECT 2 AS generation, uuid() AS id FROM range(1_500_000)) TO '{file}'")
    s3_site.run(generation(s3_site, 1), FILE)
    code = (
        "import json, sys; from tests.services.dying_load import *; sys.stdin.readline();"
        "sys.argv = ['', sys.argv[1]]; task = json.loads(sys.argv[1]);"
        "Site(Path(task['folder']), {'pond': Login(**task['login'])}, task['pond'])"
        ".run(task['extract'], task['load'], run='run-2')"
    )
    task = {
        "folder": str(s3_site.folder), "pond": s3_site.pond, "extract": {"files": {"uri": str(file)}}, "load": FILE,
        "login": {**asdict(slow), "extra": dict(slow.extra)},
    }  # fmt: skip
    victim = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(task)], stdin=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    proxy.victim = victim.pid
    victim.communicate(b"\n")
    assert victim.returncode == -signal.SIGKILL
    assert seen(s3_site, FILE["uri"]) == [(1, ROWS, ROWS)]

    s3_site.run({"files": {"uri": str(file)}}, FILE, run="run-2")
    assert seen(s3_site, FILE["uri"]) == [(2, 1_500_000, 1_500_000)]
    assert objects(bucket) == ["pond/wine.parquet"]


@pytest.fixture
def far_site(site: Site) -> Iterator[Site]:
    """A site whose scratch is on another disk, so that files cannot be pinned by hard links."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("needs a second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        yield replace(site, scratch=Path(scratch))


@pytest.fixture(params=["site", "far_site", "s3_site"])
def any_site(request: pytest.FixtureRequest) -> Site:
    found: Site = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("load", [FILE, FOLDER, PARTITIONED], ids=["file", "folder", "partitioned"])
def test_readers_and_two_writers_at_once(any_site: Site, load: dict[str, Any]) -> None:
    sources = [generation(any_site, number) for number in range(3)]
    any_site.run(sources[0], load)
    stop, errors, reads = threading.Event(), [], []

    def write(source: Any, run: str) -> None:
        try:
            for _ in range(6):
                any_site.run(source, load, run=run)
        except BaseException as error:
            errors.append(error)
            raise

    def read() -> None:
        try:
            while not stop.is_set():
                reads.append(seen(any_site, load["uri"]))
        except BaseException as error:
            errors.append(error)
            raise

    writers = [threading.Thread(target=write, args=(sources[n], f"run-{n}")) for n in (1, 2)]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert not errors
    assert reads
    assert all(len(rows) == 1 and rows[0][1:] == (ROWS, ROWS) for rows in reads), reads
    any_site.run(sources[0], load, run="run-9")
    assert seen(any_site, load["uri"]) == [(0, ROWS, ROWS)]


def test_two_tries_of_the_same_run_at_once(s3_site: Site) -> None:
    source = generation(s3_site, 1)
    errors: list[BaseException] = []

    def write() -> None:
        try:
            for _ in range(5):
                s3_site.run(source, PARTITIONED, run="run-1")
        except BaseException as error:
            errors.append(error)
            raise

    writers = [threading.Thread(target=write) for _ in range(2)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    assert not errors
    assert seen(s3_site, "pond://wine") == [(1, ROWS, ROWS)]


def test_a_real_folder_stays_as_it_is(site: Site) -> None:
    folder = site.folder / "pond/wine"
    folder.mkdir(parents=True)
    (folder / "precious.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"no load of this package made; nothing was touched"):
        site.run(generation(site, 1), FOLDER)
    assert (folder / "precious.txt").read_text() == "mine"
    assert [path.name for path in folder.parent.iterdir()] == ["wine"]


def test_foreign_objects_stay_as_they_are(s3_site: Site, bucket: Location) -> None:
    s3_site.run(generation(s3_site, 1), {"uri": f"{bucket.uri}/pond/wine/mine.parquet"})
    with pytest.raises(ConfigurationError, match=r"mine\.parquet.*nothing was touched"):
        s3_site.run(generation(s3_site, 1), FOLDER)
    assert objects(bucket) == ["pond/wine/mine.parquet"]
