"""A folder for temporary data that does not outlive its process, not even one that was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["hold", "holds", "scratch_folder"]


def hold(path: Path, *, shared: bool = False) -> int | None:
    """Lock a folder or file that exists, without waiting.

    The lock dies with the process, however it ends.

    :param shared: several may hold it so at once (readers).
    :returns: the descriptor that holds the lock until it is closed; ``None`` if the path is gone or held otherwise.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


@contextmanager
def holds(folder: Path) -> Iterator[bool]:
    """Hold a folder for the block, if nobody else does."""
    descriptor = hold(folder)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def claim(folder: Path) -> int:
    """Make a folder and hold it, whatever sweepers do in between."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = hold(folder)
        if descriptor is not None:
            return descriptor


@contextmanager
def scratch_folder(root: Path | None = None) -> Iterator[Path]:
    """Make a folder for the block, and remove those that killed processes left behind.

    :param root: folder of all scratch folders of this user; in the system's temporary folder if left out.
    """
    root = root or Path(tempfile.gettempdir()) / f"mlplatform-{os.getuid()}"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for leftover in root.iterdir():
        with holds(leftover) as dead:
            if dead:
                shutil.rmtree(leftover, ignore_errors=True)
    folder = root / uuid.uuid4().hex
    descriptor = claim(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
