"""The cluster that KUBECONFIG names, through kubectl, as a person at a terminal sees it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Kubectl"]


@dataclass(frozen=True)
class Kubectl:
    """kubectl in one namespace.

    :param namespace: the namespace; empty for what lies in none.
    """

    namespace: str = ""

    def __call__(self, *words: str, given: str | None = None, check: bool = True) -> str:
        """Run a command and return what it prints."""
        scope = ["--namespace", self.namespace] if self.namespace else []
        done = subprocess.run(
            ["kubectl", *scope, *words], input=given, capture_output=True, text=True, check=False, timeout=300
        )
        assert not check or done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr or done.stdout}"
        return done.stdout

    def apply(self, manifest: str | Mapping[str, Any]) -> None:
        """Create or change objects.

        :param manifest: YAML text, or an object.
        """
        self("apply", "-f", "-", given=manifest if isinstance(manifest, str) else json.dumps(manifest))

    def apply_file(self, path: Path, **values: str) -> None:
        """Apply a file in which ``$NAME`` stands for values."""
        self.apply(Template(path.read_text("utf-8")).substitute(values))

    def get(self, kind: str, *words: str) -> Any:
        """Return an object, or a list of them: their ``items``."""
        found = json.loads(self("get", kind, *words, "-o", "json"))
        return found["items"] if found["kind"].endswith("List") else found

    def pods(self, selector: str = "") -> list[dict[str, Any]]:
        """Return the pods that there are."""
        return list(self.get("pods", *(["--selector", selector] if selector else [])))

    def token(self, service_account: str, duration: str = "24h") -> str:
        """Return a token of a service account."""
        return self("create", "token", service_account, "--duration", duration).strip()
