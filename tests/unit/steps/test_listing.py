from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.listing import find
from airflow_mlplatform.steps.storage import Storage

if TYPE_CHECKING:
    from pathlib import Path

TREE = [
    "a.csv",
    "b.csv",
    "c.csv.gz",
    "x/a.csv",
    "x/y/a.csv",
    ".hidden.csv",
    ".h/a.csv",
    "x/[1].csv",
    "_SUCCESS",
    "n o.csv",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a\n1\n")
    return tmp_path


def names(uri: str) -> list[str]:
    return list(find(Storage().locate(uri)).files)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.csv", ["a.csv", "b.csv", "n o.csv"]),
        ("?.csv", ["a.csv", "b.csv"]),
        ("[ab].csv", ["a.csv", "b.csv"]),
        ("[!a].csv", ["b.csv"]),
        ("*.csv*", ["a.csv", "b.csv", "c.csv.gz", "n o.csv"]),
        ("*/a.csv", ["x/a.csv"]),
        ("**/a.csv", ["a.csv", "x/a.csv", "x/y/a.csv"]),
        ("x/**", ["[1].csv", "a.csv", "y/a.csv"]),
        ("x/**/a.csv", ["a.csv", "y/a.csv"]),
        ("x/[1].csv", ["[1].csv"]),
        ("", ["a.csv", "b.csv", "c.csv.gz", "n o.csv", "x/[1].csv", "x/a.csv", "x/y/a.csv"]),
        ("n o.csv", ["n o.csv"]),
    ],
)
def test_patterns(folder: Path, pattern: str, expected: list[str]) -> None:
    assert sorted(names(f"{folder}/{pattern}")) == sorted(expected)


def test_file_uris_are_decoded(folder: Path) -> None:
    assert names(f"file://{folder}/n%20o.csv") == ["n o.csv"]


@pytest.mark.parametrize("pattern", ["*.json", "nothing.csv", "q/**/a.csv"])
def test_nothing_matches(folder: Path, pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="no file matches; check the pattern") as caught:
        names(f"{folder}/{pattern}")
    assert pattern in str(caught.value)


def test_a_loop_of_links_ends(folder: Path) -> None:
    (folder / "x/loop").symlink_to(folder)
    assert len(names(f"{folder}/**/a.csv")) == 3


def test_a_manifest_hides_what_it_does_not_list(folder: Path) -> None:
    manifest = {
        "run": "r",
        "load": "l",
        "rows": 1,
        "bytes": 1,
        "columns": [],
        "partition_by": [],
        "files": ["y/a.csv"],
        "superseded": [],
    }
    (folder / "x/_manifest.json").write_text(json.dumps(manifest))
    assert names(f"{folder}/**/a.csv") == ["a.csv", "x/y/a.csv"]
    assert names(f"{folder}/x") == ["y/a.csv"]


@pytest.mark.parametrize("content", [b"{}", b"[", b'{"files": ["../../etc/passwd"]}', b"[]", b'{"run": "\xc0'])
def test_a_foreign_manifest_is_named(folder: Path, content: bytes) -> None:
    (folder / "_manifest.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"_manifest\.json: is no manifest of this package"):
        names(str(folder))
