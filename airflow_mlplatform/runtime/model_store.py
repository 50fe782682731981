"""Model folders on this machine, downloaded once: servers start from them without MLflow and its credentials."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import NotFound, ServiceError, ServiceRefused, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_mlplatform.runtime.serving_files import ServedModel

__all__ = ["ModelStore"]

KEPT = 3
PARTIAL = ".partial-"
ABANDONED_AFTER = 24 * 3600.0
ERRORS: Mapping[str, type[ServiceError]] = {
    "RESOURCE_DOES_NOT_EXIST": NotFound,
    "NOT_FOUND": NotFound,
    "PERMISSION_DENIED": ServiceRefused,
    "UNAUTHENTICATED": ServiceRefused,
    "INVALID_PARAMETER_VALUE": ServiceRefused,
}
# MLflow's own default is seven retries in four minutes, longer than a person looks at a task that cannot succeed.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}


class ModelStore:
    """``<state_dir>/models``: a folder a model version.

    :param state_dir: folder of the local runtime.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir.expanduser().resolve() / "models"

    def fetch(self, model: ServedModel, mlflow_environment: Mapping[str, str]) -> Path:
        """Return the folder of a model, downloading it if it is not there yet.

        :param model: the model version.
        :param mlflow_environment: variables with which MLflow is reached; they hold secrets.
        :raises NotFound: if there is no such version, or its files are gone.
        :raises ServiceRefused: if MLflow refuses.
        :raises ServiceUnavailable: if MLflow or the artifact store does not answer.
        """
        folder = self._folder(model, mlflow_environment.get("MLFLOW_TRACKING_URI", ""))
        if not folder.exists():
            self._download(model, mlflow_environment, folder)
        # Its time of change is its time of use, by which prune chooses.
        os.utime(folder)
        return folder

    def _folder(self, model: ServedModel, registry: str) -> Path:
        # Another registry may have a version of the same number. A password in its URI is no part of the identity.
        place = registry.rpartition("@")[2]
        identity = json.dumps([model.name, model.version, model.run_id, model.source, model.uri, place])
        digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
        return self.path / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', model.name)}-{model.version}-{digest}"

    def _download(self, model: ServedModel, environment: Mapping[str, str], folder: Path) -> None:
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep()
        with tempfile.TemporaryDirectory(dir=self.path, prefix=PARTIAL, ignore_cleanup_errors=True) as partial:
            child = subprocess.run(
                (sys.executable, "-m", "airflow_mlplatform.runtime.model_download", model.uri, partial),
                env={**PATIENCE, **os.environ, **environment},
                capture_output=True,
                text=True,
                check=False,
                cwd=partial,
            )
            downloaded = Path(_report(model, child)["folder"])
            try:
                downloaded.rename(folder)
            except OSError:
                # Somebody else was faster; anything else is an error.
                if not folder.exists():
                    raise

    def _sweep(self) -> None:
        """Remove what a killed download left behind."""
        for path in self.path.glob(f"{PARTIAL}*"):
            if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                shutil.rmtree(path, ignore_errors=True)

    def prune(self, used: Collection[Path], keep: int = KEPT) -> None:
        """Remove the folders of old versions.

        :param used: folders that are served, or shall be.
        :param keep: how many others to keep, the last used ones.
        """
        others = [entry for entry in os.scandir(self.path) if Path(entry) not in used and entry.name[0] != "."]
        others.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
        for entry in others[keep:]:
            shutil.rmtree(entry, ignore_errors=True)


def _report(model: ServedModel, child: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    if child.returncode == 0:
        report: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
        if "folder" in report:
            return report
        kind = ERRORS.get(report["code"], ServiceUnavailable)
        raise kind(f"cannot download {model} ({model.uri}): MLflow says {report['code']}: {report['message']}")
    raise ServiceUnavailable(
        f"cannot download {model} ({model.uri}): the download ended with exit code {child.returncode}:\n"
        f"{child.stderr[-2000:].strip()}"
    )
