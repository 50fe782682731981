"""What promotion leaves on model versions: aliases to go back to, and tags that tell who moved the champion's alias."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "PROMOTED_AT",
    "PROMOTED_BY",
    "ROLLED_BACK_AT",
    "ROLLED_BACK_BY",
    "previous_alias",
    "rolled_back",
    "rolled_back_alias",
]

PROMOTED_AT = "mlplatform.promoted_at"
PROMOTED_BY = "mlplatform.promoted_by"
ROLLED_BACK_AT = "mlplatform.rolled_back_at"
ROLLED_BACK_BY = "mlplatform.rolled_back_by"


def previous_alias(champion: str) -> str:
    """Return the alias that the former champion bears, to go back to it."""
    return f"previous-{champion}"


def rolled_back_alias(champion: str) -> str:
    """Return the alias that the version which was rolled back bears."""
    return f"rolled-back-{champion}"


def rolled_back(tags: Mapping[str, str]) -> str | None:
    """Say that a version was rolled back and what to do; ``None`` if it was not.

    :param tags: those of the version.
    """
    if ROLLED_BACK_AT not in tags:
        return None
    return (
        f"it was the champion until {tags.get(ROLLED_BACK_BY, 'somebody')} rolled it back at {tags[ROLLED_BACK_AT]}; "
        f"train a new one, or delete its tag {ROLLED_BACK_AT} to let it in again"
    )
