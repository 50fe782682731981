"""Which types of columns go together without changing what the values mean."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_mlplatform.steps.engine import Engine

__all__ = ["common_type"]

NUMBER = re.compile(r"U?(TINYINT|SMALLINT|INTEGER|BIGINT)|FLOAT|DOUBLE|DECIMAL\(.*\)")
TIME = re.compile(r"DATE|TIMESTAMP(_S|_MS|_NS)?")
# Parquet has none of 128 bits.
TOO_WIDE = {"HUGEINT": "BIGINT", "UHUGEINT": "UBIGINT"}


def common_type(types: Sequence[str], engine: Engine) -> str | None:
    """Return the type that holds values of all these types.

    Only numbers of different widths, and dates and times, go together. Text and anything else do not: where
    the text of one part looks like numbers (1.50), that part has lost how it was written.

    :param types: DuckDB's words, each once.
    :returns: DuckDB's word; ``None`` if they do not go together.
    """
    if len(types) == 1:
        return types[0]
    if not any(all(family.fullmatch(kind) for kind in types) for family in (NUMBER, TIME)):
        return None
    union = " UNION ALL ".join(f"SELECT CAST(NULL AS {kind}) AS value" for kind in types)
    ((_, kind),) = engine.columns(union)
    return TOO_WIDE.get(kind, kind)
