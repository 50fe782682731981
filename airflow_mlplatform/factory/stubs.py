"""Stubs: the Python files through which Airflow sees the YAML documents of a spec bundle."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import compress
from pathlib import Path

from airflow_mlplatform.factory.discover import find_specs, name_line
from airflow_mlplatform.factory.schedule import longest_pause
from airflow_mlplatform.specs.document import SEPARATOR, count_documents
from airflow_mlplatform.specs.load import DEFAULTS_FILE, Document, kind_of, load_file

__all__ = ["Census", "Stubs", "document_of_stub"]

STUB = """\
# An airflow dag stub of {shown}; it is written by SpecBundle: edit the YAML instead.
# {digest}
from airflow_mlplatform.factory.build import dag_of

dag = dag_of({path!r}, root={root!r}, index={index}, also_named_in={also_named_in!r},
             bundle={bundle!r})
"""
# Of a document that nobody has looked into: all of these are one file, which finds its document by its own name.
UNPARSED = """\
# An airflow dag stub; it is written by SpecBundle: edit the YAML instead.
from airflow_mlplatform.factory.build import dag_of
from airflow_mlplatform.factory.stubs import document_of_stub

path, index = document_of_stub(__file__, {folder!r}, {root!r})
dag = dag_of(path, root={root!r}, index=index, bundle={bundle!r})
"""
FURTHER_DOCUMENT = re.compile(r"(?P<path>.*\.ya?ml)\.(?P<number>\d+)", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """What the stub of one document needs to know."""

    path: Path
    shown: str
    index: int
    name: str | None
    place: str
    digest: str
    kind: str
    loads: bool
    pause: timedelta | None

    @classmethod
    def of(cls, document: Document, digest: str) -> Entry:
        """Keep of a document what its stub needs, and what is told of all documents."""
        spec = document.spec
        return cls(
            path=document.path,
            shown=document.shown,
            index=document.index,
            name=document.name,
            place=f"{document.shown}:{name_line(document)}",
            digest=digest,
            kind=kind_of(document),
            loads=spec is not None,
            pause=longest_pause(spec.schedule) if spec else None,
        )


@dataclass(frozen=True)
class Census:
    """What there is in a folder of specs.

    :param counts: number of documents by kind, and by whether they load.
    :param pauses: of the specs that start by the clock, by name, the longest time between two runs.
    """

    counts: Counter[tuple[str, bool]]
    pauses: dict[str, timedelta]


class Stubs:
    """The stubs of a folder of specs; files that did not change are not parsed again.

    :param specs: the folder of specs.
    :param folder: where the stubs are.
    :param bundle: name of the bundle.
    """

    def __init__(self, specs: Path, folder: Path, bundle: str) -> None:
        self.specs = specs
        self._folder = folder
        self._bundle = bundle
        self._known: dict[Path, tuple[str, tuple[Entry, ...]]] = {}

    def sync(self) -> None:
        """Write what is new or changed, remove what has gone, touch nothing else."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._known = {path: self._read(path, digest) for path, digest in self._digests()}
        entries = [entry for _, found in self._known.values() for entry in found]
        bearers: dict[str | None, list[Entry]] = defaultdict(list)
        for entry in entries:
            bearers[entry.name].append(entry)
        wanted = dict(self._stub(entry, bearers[entry.name] if entry.name else []) for entry in entries)
        for path, text in wanted.items():
            _replace_if_changed(path, text)
        for path in set(self._folder.rglob("*.py")) - wanted.keys():
            path.unlink(missing_ok=True)

    def census(self) -> Census:
        """Count what the last :meth:`sync` found; a name that stands twice breaks both documents."""
        entries = [entry for _, found in self._known.values() for entry in found]
        bearers = Counter(entry.name for entry in entries)
        well = [entry.loads and bearers[entry.name] == 1 for entry in entries]
        counts = Counter((entry.kind, loads) for entry, loads in zip(entries, well, strict=True))
        pauses = {entry.name: entry.pause for entry in compress(entries, well) if entry.name and entry.pause}
        return Census(counts, pauses)

    def write_unparsed(self) -> None:
        """Write a stub a document without looking into it, if there are none; names that stand twice are not told.

        All or nothing: a folder left half full would never be completed.
        """
        if self._folder.exists():
            return
        unfinished = self._folder.with_name(f".{self._folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        text = UNPARSED.format(folder=str(self._folder), root=str(self.specs), bundle=self._bundle)
        last: Path | None = None
        for name in self._names():
            last = _link_or_write(unfinished / name, last, text)
        unfinished.rename(self._folder)

    def _names(self) -> Iterator[str]:
        for path in find_specs(self.specs):
            shown = str(path.relative_to(self.specs))
            # Most files hold one document, which is told without all the care of loading it.
            count = count_documents(path, shown, self.specs) if SEPARATOR.search(_content(path)) else 1
            yield from (_stub_name(shown, index) for index in range(count))

    def _read(self, path: Path, digest: str) -> tuple[str, tuple[Entry, ...]]:
        known = self._known.get(path)
        if known and known[0] == digest:
            return known
        return digest, tuple(Entry.of(document, digest) for document in load_file(path, self.specs))

    def _digests(self) -> Iterator[tuple[Path, str]]:
        contents: dict[Path, bytes] = {}
        for path in find_specs(self.specs):
            digest = hashlib.sha256(_content(path))
            for folder in [path.parent, *path.parent.parents]:
                if not folder.is_relative_to(self.specs):
                    break
                if folder not in contents:
                    contents[folder] = _content(folder / DEFAULTS_FILE)
                digest.update(contents[folder])
            yield path, digest.hexdigest()

    def _stub(self, entry: Entry, bearers: list[Entry]) -> tuple[Path, str]:
        text = STUB.format(
            shown=entry.shown.replace("\n", " "),
            digest=entry.digest,
            path=str(entry.path),
            root=str(self.specs),
            index=entry.index,
            also_named_in=tuple(other.place for other in bearers if other is not entry),
            bundle=self._bundle,
        )
        return self._folder / _stub_name(entry.shown, entry.index), text


def document_of_stub(stub: str, stubs: str, specs: str) -> tuple[str, int]:
    """Return which document a stub stands for: its file, and its position in it.

    :param stub: the stub.
    :param stubs: the folder of stubs.
    :param specs: the folder of specs.
    """
    shown = str(Path(stub).resolve().relative_to(Path(stubs).resolve())).removesuffix(".py")
    further = FURTHER_DOCUMENT.fullmatch(shown)
    if further:
        return str(Path(specs, further["path"])), int(further["number"]) - 1
    return str(Path(specs, shown)), 0


def _stub_name(shown: str, index: int) -> str:
    return f"{shown}.{index + 1}.py" if index else f"{shown}.py"


def _link_or_write(path: Path, other: Path | None, text: str) -> Path:
    """Make a file with this text, by linking another one if the file system can; return what to link next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # no hard links here, or no more to this one
        if other:
            path.hardlink_to(other)
            return other
    path.write_text(text, "utf-8")
    return path


def _content(path: Path) -> bytes:
    """The bytes of a file; none if there is no such file or it cannot be read (loading it says why)."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError:
        return b""


def _replace_if_changed(path: Path, text: str) -> None:
    try:
        if path.read_text("utf-8") == text:
            return
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).replace(path)
