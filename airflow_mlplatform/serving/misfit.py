"""Whether a serving image fits a model, told by the server's log against what the model says of itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

__all__ = ["causes", "differences"]

# What MLflow warns of while it loads a model.
OTHER_PYTHON = re.compile(r"model was saved in, `Python ([\d.]+)`.*currently running, `Python ([\d.]+)`")
OTHER_PACKAGE = re.compile(r"^\s*- ([\w.-]+) \(current: ([^,]+), required: ([^)]+)\)")
NO_MODULE = re.compile(r"No module named '?([\w.]+)'?")
NO_NAME = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")
# What a pickle of another Python's byte code ends in.
OTHER_BYTE_CODE = re.compile(
    r"code\(?\)? (expected at most|argument \d+ must|takes)|unknown opcode|unsupported pickle protocol|bad marshal data"
)
SAME_PYTHON = "serve it with an image of the same minor version, or train it with that one"


def causes(lines: Sequence[str], python: str) -> list[str]:
    """Return why a model cannot be served by an image, one plain sentence each.

    :param lines: the log of a server that crashed, or what it answered.
    :param python: version of Python that the model was made with; empty if unknown.
    """
    return list(dict.fromkeys([*_byte_code(lines, python), *_missing(lines)]))


def differences(lines: Sequence[str]) -> list[str]:
    """Return in what image and model differ, which may do no harm, one plain sentence each.

    :param lines: the server's log.
    """
    return list(dict.fromkeys(_differing(lines)))


def _byte_code(lines: Sequence[str], python: str) -> Iterator[str]:
    if any(map(OTHER_BYTE_CODE.search, lines)):
        made = f"Python {python}" if python else "another Python"
        yield f"the model was made with {made}, whose pickles the image's Python cannot read; {SAME_PYTHON}"


def _missing(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        if found := NO_MODULE.search(line):
            package = found[1].partition(".")[0]
            then = "install it there, or log the model with it (code_paths=…) if it is your own"
            yield f"the image lacks the package {package}, which the model needs; {then}"
        elif found := NO_NAME.search(line):
            yield f"the image has another version of {found[2]}, without {found[1]}; install the model's version there"


def _differing(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        if found := OTHER_PYTHON.search(line):
            yield f"the model was made with Python {found[1]} and the image runs Python {found[2]}; {SAME_PYTHON}"
        elif found := OTHER_PACKAGE.search(line):
            there = "lacks it" if found[2] == "uninstalled" else f"has {found[2]}"
            yield f"the model was made with {found[3]} and the image {there}"
