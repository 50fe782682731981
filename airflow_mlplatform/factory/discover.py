"""Find the specs in a folder, one by one, honouring ``.airflowignore``.

Passed over: ``defaults.yaml``, hidden files and folders, what an ``.airflowignore`` names, and MLflow projects (folders
with an ``MLproject`` file), whose YAML files are their own.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pathspec

from airflow_mlplatform.specs.load import DEFAULTS_FILE, Document, load_file
from airflow_mlplatform.specs.problems import Problem
from airflow_mlplatform.specs.values import locate

__all__ = ["find_specs", "load_folder", "mark_duplicates"]

log = logging.getLogger(__name__)

IGNORE_FILE = ".airflowignore"
ENDINGS = (".yaml", ".yml")
Ignored = tuple[tuple[Path, Any], ...]  # the second is a PathSpec, whose generic form older versions lack


def find_specs(root: Path) -> Iterator[Path]:
    """Yield the spec files of a folder and the folders below it, in a stable order."""
    yield from _find(root, root, ())


def _find(folder: Path, root: Path, ignored: Ignored) -> Iterator[Path]:
    entries = _entries(folder)
    names = {entry.name for entry in entries}
    if "MLproject" in names:
        return
    if IGNORE_FILE in names:
        lines = (folder / IGNORE_FILE).read_text("utf-8", errors="replace").splitlines()
        ignored = (*ignored, (folder, pathspec.GitIgnoreSpec.from_lines(lines)))
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith(".") or entry.name == "__pycache__" or _is_ignored(path, entry.is_dir(), ignored):
            continue
        if entry.name.endswith(ENDINGS):
            if entry.name != DEFAULTS_FILE:
                yield path
        elif entry.is_dir(follow_symlinks=False):
            yield from _find(path, root, ignored)
        elif entry.is_dir() and not path.resolve().is_relative_to(root.resolve()):
            yield path  # loading it says that the link leaves the folder


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as scan:
            return sorted(scan, key=lambda entry: entry.name)
    except PermissionError:
        log.warning(
            "cannot look for specs in %s: permission denied; make it readable or list it in .airflowignore", folder
        )
        return []


def _is_ignored(path: Path, is_folder: bool, ignored: Ignored) -> bool:
    for base, patterns in ignored:
        relative = path.relative_to(base).as_posix()
        if patterns.match_file(f"{relative}/" if is_folder else relative):
            return True
    return False


def load_folder(root: Path) -> list[Document]:
    """Load every spec of a folder; two specs of one name are a problem of both."""
    return mark_duplicates(document for path in find_specs(root) for document in load_file(path, root))


def mark_duplicates(documents: Iterable[Document]) -> list[Document]:
    """Give each document whose name another one bears too the problem that says where the other one is."""
    everything = list(documents)
    by_name: dict[str, list[Document]] = defaultdict(list)
    for document in everything:
        if document.name:
            by_name[document.name].append(document)
    return [_with_duplicates(document, by_name.get(document.name or "", [])) for document in everything]


def _with_duplicates(document: Document, bearers: list[Document]) -> Document:
    others = [f"{other.shown}:{name_line(other)}" for other in bearers if other is not document]
    if not others:
        return document
    return replace(document, spec=None, problems=(*document.problems, duplicate(document, others)))


def duplicate(document: Document, others: Iterable[str]) -> Problem:
    """The problem of a document whose name stands elsewhere too."""
    what = f"{document.name!r} is also the name of {', '.join(others)}"
    todo = "rename one; a name is a dag_id and stands once"
    return Problem(document.shown, name_line(document), 1, "name", what, todo)


def name_line(document: Document) -> int:
    """The line on which a document gives its name."""
    if document.node is None:
        return document.line
    return int(locate(document.node, ("name",))[0].start_mark.line) + 1
