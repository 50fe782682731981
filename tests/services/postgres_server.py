"""A throw-away PostgreSQL, ready for change data capture, that tests may stop and start."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import psycopg
import pytest

from airflow_mlplatform.steps.login import Login
from tests.parts import program
from tests.services.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACES = tuple(sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True))
GET_POSTGRES = "PostgreSQL's programs: apt-get install postgresql"
PASSWORD = "s3cr3t/@:"


@dataclass
class PostgresServer:
    """One server, on 127.0.0.1, with its data in a folder of its own that goes with it.

    :param port: the port it keeps over restarts.
    """

    port: int = field(default_factory=free_port)

    @property
    def login(self) -> Login:
        """The superuser's login to the database `postgres`."""
        return Login("shop", "postgres", "127.0.0.1", self.port, "test", PASSWORD, "postgres")

    @cached_property
    def root(self) -> Path:
        """The folder, with an empty database in it."""
        # Deep temporary folders belong to this user alone; PostgreSQL refuses root and needs a short socket path.
        root = Path(f"/tmp/mlplatform-pg-{uuid4().hex[:8]}")
        root.mkdir(mode=0o755)
        if self._user:
            owner = pwd.getpwnam(self._user)
            os.chown(root, owner.pw_uid, owner.pw_gid)
        secret = root / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        options = ["-D", f"{root}/data", "-A", "scram-sha-256", "-U", "test", f"--pwfile={secret}", "-E", "UTF8"]
        self._run("initdb", *options)
        return root

    @cached_property
    def _user(self) -> str | None:
        return "postgres" if os.getuid() == 0 else None

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [program(name, GET_POSTGRES, *PLACES), *arguments],
            user=self._user,
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        )

    def connect(self) -> psycopg.Connection[Any]:
        """A connection that commits each statement."""
        login = self.login
        return psycopg.connect(
            host=login.host, port=login.port, user=login.user, password=login.password, dbname="postgres",
            autocommit=True,
        )  # fmt: skip

    def start(self) -> Self:
        """Start it, or start it again, and wait until it takes connections."""
        options = f"-p {self.port} -k {self.root} -c fsync=off -c listen_addresses=127.0.0.1 -c wal_level=logical"
        self._run("pg_ctl", "-D", f"{self.root}/data", "-l", f"{self.root}/log", "-w", "-o", options, "start")
        return self

    def stop(self) -> None:
        """Stop it as a crash does; its data stays."""
        self._run("pg_ctl", "-D", f"{self.root}/data", "-l", f"{self.root}/log", "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        """Stop it, if it runs, and remove its data."""
        if (self.root / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.root)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Login]:
    """A PostgreSQL for all tests, as a login."""
    server = PostgresServer()
    try:
        yield server.start().login
    finally:
        server.remove()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test alone, which it may stop and start."""
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()
