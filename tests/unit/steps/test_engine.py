from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.engine import Engine, Stopped, literal, memory_limit, without_semicolon

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20


@pytest.mark.parametrize(
    ("memory", "mebibytes"),
    [("512Mi", 256), ("128Mi", 96), ("4Gi", 2867), ("1G", 667), ("2000M", 1335), ("1.5Gi", 1075)],
)
def test_memory_limit(memory: str, mebibytes: int) -> None:
    assert memory_limit(memory) // MIB == mebibytes


def test_the_limit_reaches_duckdb(tmp_path: Path) -> None:
    with Engine("512Mi", tmp_path) as engine:
        assert engine.rows("SELECT current_setting('memory_limit')") == [("256.0 MiB",)]
        assert engine.rows("SELECT current_setting('temp_directory')")[0][0].startswith(str(engine.scratch))
    assert list(tmp_path.iterdir()) == []


def test_extensions_stay_away(tmp_path: Path) -> None:
    with (
        Engine(None, tmp_path) as engine,
        pytest.raises(ConfigurationError, match="httpfs"),
        engine.explaining("transform 1 (sql)"),
    ):
        engine.rows("SELECT * FROM read_csv('https://127.0.0.1:1/x.csv')")


def test_interrupt_stops_a_query(tmp_path: Path) -> None:
    with Engine(None, tmp_path) as engine:
        threading.Timer(0.2, engine.interrupt).start()
        with pytest.raises(Stopped), engine.explaining("transform 1"):
            engine.rows("SELECT count(*) FROM range(1_000_000_000_000) WHERE md5(range::VARCHAR) = ''")
        with pytest.raises(Stopped):
            engine.rows("SELECT 1")


def test_too_little_memory_says_what_to_do(tmp_path: Path) -> None:
    with (
        Engine("1Mi", tmp_path) as engine,
        pytest.raises(ConfigurationError, match=r"load x: does not fit.*raise resources\.memory"),
        engine.explaining("load x"),
    ):
        engine.rows("SELECT length(list(md5(range::VARCHAR))::VARCHAR) FROM range(20_000_000)")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [("select 1", "select 1"), ("select 1; ; -- x;", "select 1"), ("select ';' -- ;", "select ';' -- ;"), ("", "")],
)
def test_semicolons(sql: str, expected: str) -> None:
    assert without_semicolon(sql).rstrip() == expected


def test_literals() -> None:
    assert literal({"a'b": ["x", 1, True]}) == "{'a''b': ['x', 1, true]}"
