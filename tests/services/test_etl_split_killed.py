"""Tasks of a split pipeline that are killed between any two lines: after the retry one load, exactly the right rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.services.etl_parts import Site, bucket, minio, objects, s3_site, site
from tests.services.split_steps import SplitSteps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlplatform.steps.storage import Location

__all__ = ["bucket", "minio", "s3_site", "site"]

pytestmark = pytest.mark.long

FILE = {"uri": "pond://wine.parquet"}
FOLDER = {"uri": "pond://wine"}
PARTITIONED = {"uri": "pond://wine", "partition_by": ["p"]}
FILES = 7
ROWS = 20


def write_files(site: Site, generation: int, files: int = FILES) -> dict[str, Any]:
    folder = site.folder / f"src/generation-{generation}"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        rows = "".join(f"{generation},{number * ROWS + row},{row % 2}\n" for row in range(ROWS))
        (folder / f"{number}.csv").write_text(f"generation,id,p\n{rows}")
    return {"uri": f"{folder}/*.csv"}


def seen(site: Site, uri: str) -> list[tuple[Any, ...]]:
    return site.rows(uri, "SELECT generation, count(*), count(DISTINCT id) FROM input GROUP BY ALL")


class Dying:
    """A process that does steps and dies at a line of our choice."""

    def __init__(self, steps: SplitSteps, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.services.split_steps", steps.order(module)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def do(self, step: str, line: int) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{step} {line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Dying:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def killed_everywhere(
    site: Site, staging: str, load: dict[str, Any], dying_step: str, module: str, stride: int
) -> Iterator[int]:
    """Kill a step at each ``stride``-th line of a module and try again, each time in a run of its own.

    After the death a reader sees all of the old or all of the new; after the retry all of the new.
    """
    order = ["list", "extract", "load"]
    before = order[: order.index(dying_step.partition(":")[0])]
    old = SplitSteps(site, staging, write_files(site, 1), load, "run-1")
    new = SplitSteps(site, staging, write_files(site, 2), load, "run-2")
    total = FILES * ROWS
    with Dying(new, module) as dying:
        for line in range(1, 10_000, stride):
            for steps, names in ((old, order), (new, before)):
                for step in names:
                    steps.do(step)
            outcome = dying.do(dying_step, line)
            assert seen(site, load["uri"]) in ([(1, total, total)], [(2, total, total)])
            for step in (dying_step, *order[len(before) :]):
                new.do(step)
            assert seen(site, load["uri"]) == [(2, total, total)]
            if outcome != "killed":
                assert outcome == "done"
                return
            yield line


LOCAL = [
    ("list", "/staging.py", FOLDER, 2),
    ("extract:1", "/staging.py", FOLDER, 3),
    ("extract:1", "/publish_local.py", FILE, 9),
    ("load", "/staging.py", FOLDER, 11),
    ("load", "/publish_local.py", FOLDER, 9),
    ("load", "/parts.py", FOLDER, 9),
    ("load", "/publish_local.py", PARTITIONED, 17),
    ("load", "/publish_local.py", FILE, 5),
]


@pytest.mark.parametrize(("step", "module", "load", "stride"), LOCAL)
def test_on_disk(site: Site, step: str, module: str, load: dict[str, Any], stride: int) -> None:
    staging = site.folder / "staging"
    deaths = list(killed_everywhere(site, str(staging), load, step, module, stride))
    assert len(deaths) > 3
    assert not list(staging.iterdir())
    left = os.listdir(site.folder / "pond")
    assert len(left) == (1 if load is FILE else 2), left  # nothing of tries that died


S3 = [
    ("extract:1", "/staging.py", FOLDER, 9),
    ("load", "/staging.py", FOLDER, 23),
    ("load", "/publish_s3.py", FOLDER, 19),
    ("load", "/publish_s3.py", FILE, 1),
]


@pytest.mark.parametrize(("step", "module", "load", "stride"), S3)
def test_on_s3(s3_site: Site, bucket: Location, step: str, module: str, load: dict[str, Any], stride: int) -> None:
    deaths = list(killed_everywhere(s3_site, f"{bucket.uri}/staging", load, step, module, stride))
    assert len(deaths) > 2
    assert objects(bucket / "staging") == []
    assert len(objects(bucket / "pond")) == (1 if load is FILE else 4)


def test_a_retry_with_fewer_files_after_the_whole_was_cleared(site: Site) -> None:
    staging = str(site.folder / "staging")
    source = write_files(site, 1)
    steps = SplitSteps(site, staging, source, FOLDER, "run-1")
    steps.do("list")
    steps.do("extract")
    for number in range(2, FILES):
        (site.folder / f"src/generation-1/{number}.csv").unlink()
    for step in ("list", "extract", "load"):
        steps.do(step)
    assert seen(site, FOLDER["uri"]) == [(1, 2 * ROWS, 2 * ROWS)]
    assert not list((site.folder / "staging").iterdir())
