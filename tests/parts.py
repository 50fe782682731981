"""Real parts that tests need: found, or skipped saying how to get them (in CI a missing part is a failure)."""

from __future__ import annotations

import os
import shutil

import pytest


def require(present: object, how_to_get_it: str) -> None:
    """Skip the test if a part is missing; fail it where CI demands that every part is there."""
    if present:
        return
    if os.environ.get("MLPLATFORM_REQUIRE_SERVICES") == "1":
        pytest.fail(f"missing in CI: {how_to_get_it}", pytrace=False)
    pytest.skip(how_to_get_it)


def program(name: str, how_to_get_it: str, *places: str) -> str:
    """The path of a program on PATH or in one of the given folders."""
    found = shutil.which(name) or next(
        (f"{place}/{name}" for place in places if os.access(f"{place}/{name}", os.X_OK)), ""
    )
    require(found, how_to_get_it)
    return found
