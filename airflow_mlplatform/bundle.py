"""A DAG bundle of specs: every YAML document becomes a DAG, every broken one an import error of its own.

Airflow parses Python files, so the bundle keeps one tiny stub a document, in its own storage, and never writes into the
folder of specs. A stub holds the hash of its YAML (and of the defaults above it) and is replaced only when that
changes, for its modification time is what tells Airflow to parse again.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.factory.stubs import Census, Stubs
from airflow_mlplatform.metrics import SPEC_INTERVAL, SPECS
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.kinds import KINDS

__all__ = ["SpecBundle"]


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
        _import_once_for_all_stubs()
        with self.lock():
            self._stubs_of_now().sync()
        self._report(self._stubs_of_now().census())

    def _report(self, census: Census) -> None:
        """Tell all figures at each refresh, also those that are 0: what gathers them may have lost them."""
        for kind in (*KINDS, "unknown"):
            for loads, state in ((True, "loaded"), (False, "broken")):
                SPECS.set(census.counts[kind, loads], bundle=self.name, kind=kind, state=state)
        for name, pause in census.pauses.items():
            SPEC_INTERVAL.set(pause.total_seconds(), dag_id=name)

    def get_current_version(self) -> str | BundleVersion | None:
        """Return the version of the source; a local folder has none."""
        return self._source.get_current_version() if self._source else None

    def view_url_template(self) -> str | None:
        """Return where people can look at the source."""
        return self._source.view_url_template() if self._source else super().view_url_template()

    def _stubs_of_now(self) -> Stubs:
        if self._stubs is None or self._stubs.specs != self.specs:
            self._stubs = Stubs(self.specs, self.path, self.name)
        return self._stubs


def _import_once_for_all_stubs() -> None:
    """The DAG processor forks after a refresh, once a stub: what is imported here, its children need not import."""
    for kind in KINDS:
        import_module(f"airflow_mlplatform.factory.{kind}")
    import_module("airflow_mlplatform.factory.build")
    if settings().runtime == "kubernetes":
        import_module("airflow_mlplatform.runtime.pod")
