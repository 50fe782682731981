"""Symbolic links of projects that others wrote."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

__all__ = ["links_out"]


def links_out(folder: Path, root: Path, ignored: Container[str] = ()) -> Iterator[Path]:
    """Yield the links in a folder that lead out of a root, or nowhere because they run in a circle.

    :param root: a folder without links in its own path.
    :param ignored: names of folders that are not looked into.
    """
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in ignored]
        for path in (Path(place, name) for name in [*folders, *files]):
            if path.is_symlink() and not _inside(path, root):
                yield path


def _inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a circle
        return False
