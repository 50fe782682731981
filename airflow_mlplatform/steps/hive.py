"""Folders named column=value: the types of such columns, told from all of the names at once."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from airflow_mlplatform.steps.engine import Engine, literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["hive_types"]

NULL = "__HIVE_DEFAULT_PARTITION__"
GUESSES = ("DATE", "TIMESTAMP", "BIGINT")


def hive_types(names: Sequence[str], engine: Engine) -> dict[str, str]:
    """Guess the type of each column that is a folder, as DuckDB does where it sees all of the files.

    :param names: paths of the files, all in folders of the same columns.
    """
    values: dict[str, set[str]] = {}
    for name in names:
        for folder in name.split("/")[:-1]:
            column, is_one, value = folder.partition("=")
            if is_one:
                values.setdefault(column, set()).add(unquote(value))
    return {column: _guess(found - {NULL}, engine) for column, found in values.items()}


def _guess(values: set[str], engine: Engine) -> str:
    given = literal(sorted(values))
    for kind in GUESSES if values else ():
        (fits,) = engine.rows(f"SELECT bool_and(TRY_CAST(v AS {kind}) IS NOT NULL) FROM (SELECT unnest({given}) AS v)")[
            0
        ]
        if fits:
            return kind
    return "VARCHAR"
