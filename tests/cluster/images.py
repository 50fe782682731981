"""Container images for the cluster: built here, pushed to where the cluster pulls from."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.parts import program

__all__ = ["AIRFLOW", "FAUST", "STREAMING", "TRAINER", "Images"]

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "images"
SERVICES = ("minio", "postgres", "mlflow", "seldon")
AIRFLOW = "mlplatform-airflow"
FAUST = "mlplatform-faust"
STREAMING = "mlplatform-streaming"
TRAINER = "mlplatform-trainer"
GET_MINIO = "the minio binary, on PATH: https://min.io"


@dataclass(frozen=True)
class Images:
    """The images of this session.

    :param registry: what stands before the name of an image, as the cluster pulls it.
    :param tag: tag of the package's own images.
    """

    registry: str
    tag: str = "dev"

    def __call__(self, name: str) -> str:
        """Return the full name of one of the package's own images."""
        return f"{self.registry}/{name}:{self.tag}"

    def build_services(self) -> None:
        """Build the services of the tests."""
        minio = program("minio", GET_MINIO)
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(SERVICES)) as threads:
            contexts = shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
            shutil.copy2(minio, Path(contexts) / "minio" / "minio")
            list(threads.map(lambda name: self._build(Path(contexts) / name, f"mlplatform-test-{name}:dev"), SERVICES))

    def build_own(self, *names: str) -> None:
        """Build images of `docker/`, unless MLPLATFORM_IMAGES_BUILT says that they are there.

        :param names: folders of `docker/`.
        """
        if os.environ.get("MLPLATFORM_IMAGES_BUILT") != "1":
            _run([str(ROOT / "docker" / "build"), *names])

    def _build(self, folder: Path, tag: str) -> None:
        if command := os.environ.get("IMAGE_BUILD"):
            _run([*shlex.split(command), str(folder), tag])
            return
        _run(["docker", "build", "--quiet", "-t", f"{self.registry}/{tag}", str(folder)])
        _run(["docker", "push", "--quiet", f"{self.registry}/{tag}"])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
