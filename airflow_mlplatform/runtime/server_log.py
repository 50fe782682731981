"""What a model server's log says about why it did not come up."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Cause", "explain", "tail"]

TAIL_BYTES = 4000


@dataclass(frozen=True)
class Cause:
    """Why a server did not come up.

    :param text: in plain words, with what to do.
    :param lasting: whether another try would end the same way.
    """

    text: str
    lasting: bool = True


# What shows in a log, the words for it, and whether it lasts; the first that is found counts.
EXPLANATIONS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str], bool], ...] = (
    (
        re.compile(r"(?:ModuleNotFoundError|ImportError): No module named '([^']+)'"),
        lambda found: (
            f"the model needs the Python package that brings {found[1]!r} and the serving environment lacks it; "
            "install what the model's requirements.txt lists, or log the model from this environment"
        ),
        True,
    ),
    (
        re.compile(r"ImportError: cannot import name '([^']+)' from '([^']+)'"),
        lambda found: (
            f"the model was made with another version of {found[2]!r} ({found[1]!r} is not in this one); "
            "install the version that the model's requirements.txt lists"
        ),
        True,
    ),
    (
        re.compile(
            r"No such file or directory: '([^']*MLmodel)'|Could not find an \"MLmodel\" configuration file[^\n]*"
        ),
        lambda found: f"there is no model: {found[0].strip()}; was the version's artifact deleted?",
        True,
    ),
    (
        re.compile(r"(?:unsupported pickle protocol|code\(\) (?:argument|takes)|unknown opcode)[^\n]*", re.IGNORECASE),
        lambda found: (
            f"the model was pickled by another Python ({found[0].strip()}); serve it with the version in its MLmodel"
        ),
        True,
    ),
    (
        re.compile(r"(?:AttributeError: Can't get attribute|InconsistentVersionWarning:?|incompatible dtype)[^\n]*"),
        lambda found: (
            f"the pickled model does not fit the installed packages ({found[0].strip()}); "
            "install the versions that its requirements.txt lists"
        ),
        True,
    ),
    (
        re.compile(r"MemoryError|Cannot allocate memory"),
        lambda _: "there was not enough memory to load the model",
        False,
    ),
    (
        re.compile(r"address already in use", re.IGNORECASE),
        lambda _: "another process took the port in the meantime; try again",
        False,
    ),
    # Only warnings, but the best guess where nothing above is found.
    (
        re.compile(r"version of Python that the model was saved in, `(Python [^`]+)`[^`]*`(Python [^`]+)`"),
        lambda found: f"the model was made with {found[1]} and this is {found[2]}; use the same minor version",
        False,
    ),
    (
        re.compile(
            r"mismatches between the model's dependencies and the current Python environment:((?:\s+- [^\n]+)+)"
        ),
        lambda found: (
            f"installed packages differ from those that the model was made with: {' '.join(found[1].split())}; "
            "install what its requirements.txt lists"
        ),
        False,
    ),
)


def tail(path: Path, size: int = TAIL_BYTES) -> str:
    """Return the end of a log, whole lines; an empty text if there is none."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return (text if end <= size else text.partition("\n")[2]).strip()


def explain(log: str) -> Cause | None:
    """Say in plain words what a log tells about a failed start; ``None`` if nothing is recognised."""
    for pattern, words, lasting in EXPLANATIONS:
        found = pattern.search(log)
        if found:
            return Cause(words(found), lasting)
    return None
