"""A DAG bundle of specs: every YAML document becomes a DAG, every broken one an import error of its own.

Airflow parses Python files, so the bundle keeps one tiny stub a document, in its own storage, and never writes into the
folder of specs. A stub holds the hash of its YAML (and of the defaults above it) and is replaced only when that
changes, for its modification time is what tells Airflow to parse again.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.factory.discover import find_specs, name_line
from airflow_mlplatform.specs.document import count_documents
from airflow_mlplatform.specs.load import DEFAULTS_FILE, Document, load_file

__all__ = ["SpecBundle"]

STUB = """\
# An airflow dag stub of {shown}; it is written by SpecBundle: edit the YAML instead.
# {digest}
from airflow_mlplatform.factory.build import dag_of

dag = dag_of({path!r}, root={root!r}, index={index}, also_named_in={also_named_in!r})
"""


class SpecBundle(BaseDagBundle):
    """Specs in a local folder, or in another bundle such as a git repository.

    Configure it in ``[dag_processor] dag_bundle_config_list``::

        [{"name": "specs", "classpath": "airflow_mlplatform.bundle.SpecBundle", "kwargs": {"path": "/opt/specs"}}]

    :param path: the folder of specs; with ``source``, a folder inside it.
    :param source: another bundle to take the specs from: ``{"classpath": …, "kwargs": {…}}``.
    :param refresh_interval: seconds between two looks at the folder (default 5).
    :param kwargs: see :class:`~airflow.dag_processing.bundles.base.BaseDagBundle`.
    :raises ConfigurationError: if neither ``path`` nor ``source`` is given.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        source: dict[str, Any] | None = None,
        refresh_interval: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(refresh_interval=refresh_interval, **kwargs)
        if not path and not source:
            raise ConfigurationError(
                f"the spec bundle {self.name!r} does not know where the specs are; add path (a folder) or source "
                "(another bundle) to its kwargs in [dag_processor] dag_bundle_config_list"
            )
        self._folder = path or ""
        self._stubs: Stubs | None = None
        self._source = self._make_source(source) if source else None
        self.supports_versioning = bool(self._source and self._source.supports_versioning)

    def _make_source(self, source: dict[str, Any]) -> BaseDagBundle:
        module, _, name = source["classpath"].rpartition(".")
        bundle: BaseDagBundle = getattr(import_module(module), name)(
            name=self.name, version=self.version, refresh_interval=self.refresh_interval, **source.get("kwargs", {})
        )
        return bundle

    @property
    def specs(self) -> Path:
        """The folder of specs."""
        return self._source.path / self._folder if self._source else Path(self._folder)

    @property
    def path(self) -> Path:
        """The folder of stubs, which Airflow parses."""
        return self.base_dir / "stubs" / (self.version or "latest")

    def initialize(self) -> None:
        """Make the specs and their stubs available.

        A worker needs one stub and asks for no other: stubs that are there are left to :meth:`refresh`, and those that
        are not are written without parsing a single spec.
        """
        if self._source:
            self._source.initialize()
        if not self.path.exists():
            with self.lock():
                self._stubs_of_now().write_unparsed()
        super().initialize()

    def refresh(self) -> None:
        """Fetch the newest specs and bring the stubs up to date."""
        if self._source:
            self._source.refresh()
        # The DAG processor forks after this: what is imported here is imported once for all stubs.
        import airflow_mlplatform.factory.build  # noqa: F401

        with self.lock():
            self._stubs_of_now().sync()

    def get_current_version(self) -> str | BundleVersion | None:
        """Return the version of the source; a local folder has none."""
        return self._source.get_current_version() if self._source else None

    def view_url_template(self) -> str | None:
        """Return where people can look at the source."""
        return self._source.view_url_template() if self._source else super().view_url_template()

    def _stubs_of_now(self) -> Stubs:
        if self._stubs is None or self._stubs.specs != self.specs:
            self._stubs = Stubs(self.specs, self.path)
        return self._stubs


@dataclass(frozen=True)
class Entry:
    """What the stub of one document needs to know."""

    path: Path
    shown: str
    index: int
    name: str | None
    place: str
    digest: str

    @classmethod
    def of(cls, document: Document, digest: str) -> Entry:
        """Keep of a document what its stub needs."""
        place = f"{document.shown}:{name_line(document)}"
        return cls(document.path, document.shown, document.index, document.name, place, digest)


class Stubs:
    """The stubs of a folder of specs; files that did not change are not parsed again.

    :param specs: the folder of specs.
    :param folder: where the stubs are.
    """

    def __init__(self, specs: Path, folder: Path) -> None:
        self.specs = specs
        self._folder = folder
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

    def write_unparsed(self) -> None:
        """Write a stub a document without looking into it; names that stand twice are not told."""
        for path, digest in self._digests():
            shown = str(path.relative_to(self.specs))
            for index in range(count_documents(path, shown, self.specs)):
                _replace_if_changed(*self._stub(Entry(path, shown, index, None, shown, digest), []))

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
        suffix = f".{entry.index + 1}.py" if entry.index else ".py"
        text = STUB.format(
            shown=entry.shown.replace("\n", " "),
            digest=entry.digest,
            path=str(entry.path),
            root=str(self.specs),
            index=entry.index,
            also_named_in=tuple(other.place for other in bearers if other is not entry),
        )
        return self._folder / f"{entry.shown}{suffix}", text


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
