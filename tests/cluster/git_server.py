"""A git repository of specs that pods can clone; whatever is published is what a push of a user would be."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from airflow_mlplatform.demo.processes import Processes
from airflow_mlplatform.runtime.model_server import free_port

__all__ = ["SpecRepository"]

AUTHOR = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "tester"), ("EMAIL", "tester@example.org"))
}


@dataclass
class SpecRepository:
    """A folder of specs and the repository it is pushed to, served by git's own daemon.

    :param folder: where both lie.
    :param host: where pods reach this machine.
    :param processes: what git's daemon is started with.
    """

    folder: Path
    host: str
    processes: Processes
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        """Address of the repository."""
        return f"git://{self.host}:{self.port}/specs.git"

    @property
    def specs(self) -> Path:
        """The folder in which specs are written."""
        return self.folder / "work"

    def start(self) -> None:
        """Make the repository and serve it."""
        self.folder.mkdir(parents=True)
        served = self.folder / "served"
        self._git("init", "--quiet", "--bare", "--initial-branch=main", str(served / "specs.git"), cwd=self.folder)
        self._git("clone", "--quiet", str(served / "specs.git"), str(self.specs), cwd=self.folder)
        command = ["git", "daemon", "--export-all", "--reuseaddr", f"--base-path={served}", f"--port={self.port}"]
        self.processes.start("git", [*command, str(served)], {"PATH": os.environ["PATH"]}, self.folder)
        self.publish("start", {"dags/README.md": "DAGs written by hand.\n"})

    def write(self, files: dict[str, str]) -> None:
        """Write files, paths as seen from the folder of specs."""
        for name, text in files.items():
            path = self.specs / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")

    def copy(self, folder: Path, to: str) -> None:
        """Copy a folder of specs."""
        shutil.copytree(folder, self.specs / to, dirs_exist_ok=True)

    def publish(self, message: str, files: dict[str, str] | None = None) -> str:
        """Commit and push everything, and return the commit."""
        self.write(files or {})
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", message)
        self._git("push", "--quiet", "origin", "HEAD:main")
        return self._git("rev-parse", "HEAD")

    def _git(self, *words: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *words], cwd=cwd or self.specs, env={**os.environ, **AUTHOR}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()
