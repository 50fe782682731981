"""A project that is a folder: beside its spec in a DAG bundle, or at a place that this container sees."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable
from airflow_mlplatform.runtime.mlflow_project import IGNORED
from airflow_mlplatform.runtime.symlinks import links_out

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BundleFolder", "Found", "copy_folder", "find_folder"]


class BundleFolder(BaseModel):
    """The folder of a spec in a DAG bundle.

    :param name: name of the bundle.
    :param version: its version; ``None`` for the newest.
    :param folder: the spec's folder, relative to the bundle's.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str | None = None
    folder: str = ""


@dataclass(frozen=True)
class Found:
    """A folder and the one around it that no link may leave."""

    path: Path
    root: Path


def find_folder(location: str, bundle: BundleFolder | None, beside: Path | None) -> Found:
    """Find the folder that a project's uri means.

    :param location: absolute path, or one relative to the spec's folder.
    :param bundle: where the spec lies.
    :param beside: the spec's folder as the DAG processor saw it; looked at after the bundle.
    :raises ConfigurationError: if there is no such folder, or the path leads out of the bundle.
    :raises ServiceUnavailable: if the bundle cannot be fetched now.
    """
    looked: list[str] = []
    for root, start in _places(location, bundle, beside):
        path = (start / location).resolve()
        inside = path.is_relative_to(root)
        if inside and path.is_dir():
            return Found(path, root)
        looked.append(str(path) if inside else f"{path} (which is outside of the bundle's folder {root})")
    raise ConfigurationError(
        f"there is no MLflow project {location}: looked for {' and '.join(looked) or 'nothing'}; correct the uri, "
        "let the project's folder be part of the DAG bundle, or build it into the training image and write its "
        "absolute path"
    )


def copy_folder(found: Found, target: Path) -> None:
    """Copy a project without what running it has left there; links become what they lead to.

    :param target: made here.
    :raises ConfigurationError: if a link leads out of the root, or a file cannot be read.
    """
    for path in links_out(found.path, found.root, IGNORED):
        raise ConfigurationError(
            f"{path} is a link that leads out of {found.root} ({path.readlink()}); replace it by what it leads to"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(found.path, target, ignore=shutil.ignore_patterns(*IGNORED))
    except shutil.Error as error:
        raise ConfigurationError(f"{found.path} cannot be copied: {error}; correct the project's folder") from error


def _places(location: str, bundle: BundleFolder | None, beside: Path | None) -> Iterator[tuple[Path, Path]]:
    """Yield what a project's path must not leave, and where a relative one starts."""
    anywhere = Path("/")
    if Path(location).is_absolute():
        yield anywhere, anywhere
        return
    if bundle:
        root = _bundle_root(bundle).resolve()
        yield root, root / bundle.folder
    if beside:
        yield anywhere, beside


def _bundle_root(wanted: BundleFolder) -> Path:
    # Airflow takes seconds to import; a git project does without.
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.sdk.exceptions import AirflowException

    from airflow_mlplatform.bundle import SpecBundle

    try:
        bundle = DagBundlesManager().get_bundle(wanted.name, wanted.version)
        bundle.initialize()
    except ValueError as error:
        raise ConfigurationError(
            f"DAG bundle {wanted.name!r}, where the spec lies, is unknown in this container ({error}); give it the "
            "[dag_processor] dag_bundle_config_list of the DAG processor"
        ) from error
    except (AirflowException, RuntimeError, OSError) as error:
        cause = f": {error.__cause__}" if error.__cause__ else ""
        raise ServiceUnavailable(
            f"DAG bundle {wanted.name!r}, where the spec lies, cannot be fetched: {error}{cause}; see that this "
            "container can reach its source and has the bundle's connection"
        ) from error
    return bundle.specs if isinstance(bundle, SpecBundle) else bundle.path
