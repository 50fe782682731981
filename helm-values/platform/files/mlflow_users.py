"""Give MLflow its users, each with the rights that it needs and no more; what is there already is kept.

The job of this chart runs ``mlflow_users.py FOLDER``: a file for each user holds its password. MLFLOW_URL,
ADMIN_USERNAME and ADMIN_PASSWORD are in its environment. API and permissions: MLflow's ``basic-auth`` app from 3.15.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping

# Whoever is known may read everything: default_permission of the server.
GRANTS: Mapping[str, Mapping[str, str]] = {
    # Makes experiments and runs, registers models and moves their aliases.
    "airflow": {"experiment": "MANAGE", "registered_model": "MANAGE"},
    # Trainings run foreign code: it logs into runs, and cannot move the alias of what is served.
    "training": {"experiment": "EDIT"},
    # Prometheus.
    "metrics": {},
}
PATIENCE = 1800.0


class Users:
    """The users of one MLflow server.

    :param url: of the server.
    :param admin: name and password of its administrator.
    """

    def __init__(self, url: str, admin: tuple[str, str]) -> None:
        self._url = url
        self._admin = httpx.Client(base_url=url, auth=admin, timeout=30)

    def wait(self, seconds: float) -> None:
        """Wait until the server is well.

        :raises SystemExit: if it is not after so long.
        """
        deadline = time.monotonic() + seconds
        while not self._is_well():
            if time.monotonic() > deadline:
                raise SystemExit(f"{self._url} has not answered for {seconds:.0f} s; look at the pods of MLflow")
            time.sleep(2)

    def make(self, name: str, password: str) -> bool:
        """Make a user, or give it this password; return whether anything was changed."""
        if self._knows(name, password):
            return False
        user = {"username": name, "password": password}
        if self._post("2.0/mlflow/users/create", user):
            return True
        self._admin.patch("/api/2.0/mlflow/users/update-password", json=user).raise_for_status()
        return True

    def grant(self, name: str, kind: str, permission: str) -> None:
        """Let a user do something with everything of a kind."""
        right = {"username": name, "resource_type": kind, "resource_id": "*", "permission": permission}
        self._post("3.0/mlflow/users/permissions/grant", right)

    def _is_well(self) -> bool:
        try:
            return httpx.get(f"{self._url}/health", timeout=5).is_success
        except httpx.TransportError:
            return False

    def _knows(self, name: str, password: str) -> bool:
        answer = httpx.get(f"{self._url}/api/2.0/mlflow/users/current", auth=(name, password), timeout=30)
        return answer.is_success

    def _post(self, path: str, body: Mapping[str, str]) -> bool:
        """Whether it is new; what is there already is no failure."""
        answer = self._admin.post(f"/api/{path}", json=body)
        if answer.is_client_error and answer.json().get("error_code") == "RESOURCE_ALREADY_EXISTS":
            return False
        answer.raise_for_status()
        return True


def main(folder: Path, environment: Mapping[str, str]) -> None:
    """Make all users, with the passwords of a folder."""
    users = Users(environment["MLFLOW_URL"], (environment["ADMIN_USERNAME"], environment["ADMIN_PASSWORD"]))
    users.wait(PATIENCE)
    for name, grants in GRANTS.items():
        if users.make(name, (folder / name).read_text("utf-8")):
            print("made", name)  # noqa: T201 - the log of the job
        for kind, permission in grants.items():
            users.grant(name, kind, permission)


if __name__ == "__main__":
    main(Path(sys.argv[1]), os.environ)
