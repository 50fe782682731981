"""Serving models on this machine, from the side of those who deploy."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import httpx
from pydantic import BaseModel, ConfigDict

from airflow_mlplatform.exceptions import ConfigurationError, MlplatformError, ServiceUnavailable, ServingFailed
from airflow_mlplatform.runtime.model_server import serving_environment
from airflow_mlplatform.runtime.processes import port_holder, stop_marked
from airflow_mlplatform.runtime.server_log import tail
from airflow_mlplatform.runtime.serving_files import (
    EndpointFiles,
    EnvManager,
    FrontRecord,
    ServedModel,
    Status,
    Wish,
    locked,
    write,
)
from airflow_mlplatform.runtime.serving_folder import MARK, ServingFolder, base_url, listen, parse_address

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from airflow_mlplatform.runtime.local import Identity

__all__ = ["FRONT", "LocalServing", "Outcome", "WishChanged"]

FRONT = (sys.executable, "-m", "airflow_mlplatform.runtime.front")
FRONT_MARK = "MLPLATFORM_FRONT"
ENDPOINT_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
START_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL = 0.1


class WishChanged(MlplatformError):
    """Somebody else has changed a wish meanwhile."""


class Outcome(BaseModel):
    """How a wish ended.

    :param result: ``ready``; ``failed`` (what served before still does); ``superseded`` by a later wish; ``lost``:
        no front runs any more.
    :param message: why it is not ready.
    :param lasting: whether another try would fail in the same way.
    :param model: the version that serves, where it is ready.
    :param former_version: the version that served before, where it is ready.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    result: Literal["ready", "failed", "superseded", "lost"]
    message: str = ""
    lasting: bool = False
    model: ServedModel | None = None
    former_version: str | None = None


class LocalServing:
    """The model servers of this machine and the front before them.

    Nothing here waits for a model, so all of it may be repeated at any time.

    :param state_dir: folder of the local runtime.
    :param address: ``host:port`` on which models are served.
    :param program: command that runs the front.
    :raises ConfigurationError: if the address is none.
    """

    def __init__(self, state_dir: Path, address: str, program: Sequence[str] = FRONT) -> None:
        parse_address(address)
        self.folder = ServingFolder(state_dir)
        self.address = address
        self._state_dir = state_dir
        self._program = tuple(program)

    def url(self, name: str) -> str:
        """The stable address of an endpoint; ``/invocations`` below it takes requests."""
        return f"{base_url(self.address)}/{name}"

    def ensure_front(self) -> FrontRecord:
        """Start the front unless it runs; returns when it answers. Any number of processes may call this at once.

        :raises ConfigurationError: if the address is taken, or is not one of this machine.
        :raises ServiceUnavailable: if the front does not come up.
        """
        deadline = time.monotonic() + START_SECONDS
        child: subprocess.Popen[bytes] | None = None
        while True:
            if record := self._answering_front():
                return record
            lock = self.folder.lock_front() if child is None else None
            if lock is not None:
                child = self._start_front(lock)
            if (child and child.poll() is not None) or time.monotonic() >= deadline:
                raise self._no_front()
            time.sleep(POLL)

    def _answering_front(self) -> FrontRecord | None:
        try:
            record = self.folder.front()
        except ConfigurationError:
            # Written by another version of this package; what that front served is taken over from its files.
            self.stop()
            self.folder.front_path.unlink(missing_ok=True)
            return None
        if record is None:
            return None
        if record.address != self.address:
            self._stop_front(record.process)
            return None
        try:
            answer = httpx.get(f"{base_url(self.address)}/-/health", trust_env=False, timeout=5.0)
            return record if answer.json() == {"front": record.process.pid} else None
        except (httpx.TransportError, ValueError):
            return None

    def _start_front(self, lock: int) -> subprocess.Popen[bytes]:
        """Start the front; it inherits the lock and the listening socket, so that there is no moment without them."""
        try:
            with self._listen() as listener, self.folder.front_log.open("ab") as log:
                files = (listener.fileno(), lock)
                options = ("--address", self.address, "--socket", str(files[0]), "--lock", str(lock))
                return subprocess.Popen(
                    [*self._program, str(self._state_dir), *options],
                    env=serving_environment() | {FRONT_MARK: str(self.folder.path)},
                    cwd=self.folder.path,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=files,
                    start_new_session=True,
                )
        finally:
            os.close(lock)

    def _listen(self) -> socket.socket:
        try:
            return listen(self.address)
        except OSError as error:
            setting = "set [mlplatform] serving_address (AIRFLOW__MLPLATFORM__SERVING_ADDRESS) to another host:port"
            why = f"{error.strerror or error}; {setting}"
            if error.errno == errno.EADDRINUSE:
                why = f"{port_holder(parse_address(self.address)[1])} listens there; stop it, or {setting}"
            raise ConfigurationError(f"cannot serve models on {self.address}: {why}") from error

    def _no_front(self) -> Exception:
        log = tail(self.folder.front_log)
        if "No module named" in log:
            return ConfigurationError(
                f"the front of the model servers lacks packages; pip install 'airflow-mlplatform[local]' "
                f"({log.splitlines()[-1]})"
            )
        return ServiceUnavailable(
            f"the front of the model servers does not come up on {self.address}; "
            f"the end of its log ({self.folder.front_log}):\n{log or '(empty)'}"
        )

    def apply(
        self,
        name: str,
        model: ServedModel,
        model_folder: Path,
        *,
        replicas: int = 1,
        env_manager: EnvManager = "local",
        ready_timeout: timedelta = timedelta(minutes=5),
    ) -> int:
        """Wish that an endpoint serves a model. The same wish again is the same generation, unless it failed.

        :param name: name of the endpoint, a DNS label.
        :param model: the model version.
        :param model_folder: where it lies on this machine.
        :param replicas: how many servers share the load.
        :param env_manager: where the model's packages come from.
        :param ready_timeout: how long a server may take to come up.
        :returns: the generation, for :meth:`outcome`.
        :raises ConfigurationError: if the name is none.
        """
        if not ENDPOINT_NAME.match(name):
            raise ConfigurationError(f"{name!r} cannot name an endpoint; use lower-case letters, digits and -")
        files = self.folder.endpoint(name)
        with locked(files.lock_path):
            files.make()
            former, status = _undamaged(files)
            last = max(former.generation if former else 0, status.generation)
            wish = Wish(
                generation=last + 1,
                model=model,
                folder=model_folder.resolve(),
                replicas=replicas,
                env_manager=env_manager,
                ready_timeout=ready_timeout.total_seconds(),
            )
            if former and former.division == wish.division and not _failed(former, status):
                return former.generation
            write(files.desired_path, wish)
        return wish.generation

    def replace(self, name: str, wish: Wish, former: int | None) -> int:
        """Wish something else, if the last wish is still the one that was looked at.

        :param wish: what to serve; its generation is counted here.
        :param former: generation of the wish that was looked at; ``None`` if there was none.
        :returns: the generation.
        :raises WishChanged: if somebody else wished something meanwhile.
        """
        files = self.folder.endpoint(name)
        with locked(files.lock_path):
            files.make()
            last, status = _undamaged(files)
            if (last.generation if last else None) != former:
                raise WishChanged(f"endpoint {name!r}: somebody else has wished something since generation {former}")
            generation = max(former or 0, status.generation) + 1
            write(files.desired_path, wish.model_copy(update={"generation": generation}))
        return generation

    def wish(self, name: str) -> Wish | None:
        """What an endpoint shall serve; ``None`` if nothing, or nobody can tell."""
        return _undamaged(self.folder.endpoint(name))[0]

    def status(self, name: str) -> Status | None:
        """What the front reported last about an endpoint; ``None`` if there is no such endpoint."""
        return self.folder.endpoint(name).status()

    def outcome(self, name: str, generation: int) -> Outcome | None:
        """Tell how a wish ended; ``None`` while it is not decided.

        :param generation: what :meth:`apply` returned.
        """
        wish, status = _undamaged(self.folder.endpoint(name))
        if wish is None or wish.generation != generation:
            return Outcome(result="superseded", message=_superseded(name, wish))
        if status.generation == generation and status.phase == "ready":
            return Outcome(result="ready", model=wish.model, former_version=status.former_version)
        if status.generation == generation and status.phase == "failed":
            return Outcome(result="failed", message=status.message, lasting=status.lasting)
        if self.folder.front() is None:
            return Outcome(result="lost", message=f"the front on {self.address} has died; see {self.folder.front_log}")
        return None

    def wait(self, name: str, generation: int, timeout: timedelta) -> Outcome:
        """Wait until a wish is decided.

        :raises ServingFailed: if it is not within ``timeout``.
        """
        deadline = time.monotonic() + timeout.total_seconds()
        while (outcome := self.outcome(name, generation)) is None:
            if time.monotonic() >= deadline:
                raise ServingFailed(f"endpoint {name!r}: still undecided after {timeout}; see {self.folder.path}")
            time.sleep(POLL)
        return outcome

    def used_folders(self) -> set[Path]:
        """The model folders that are served, or shall be.

        :raises ConfigurationError: if that cannot be told, because a file is damaged.
        """
        used = set()
        for files in self.folder.endpoints():
            status = files.status()
            wishes = (files.desired(), status.serving if status else None)
            used |= {servers.folder for wish in wishes if wish for servers in wish.predictors.values()}
        return used

    def remove(self, name: str, timeout: timedelta = timedelta(minutes=1)) -> None:
        """Serve this endpoint no longer; returns when nothing of it is left. An unknown name is fine.

        :raises ServiceUnavailable: if the front does not do it in time.
        """
        files = self.folder.endpoint(name)
        if not files.folder.exists():
            return
        with locked(files.lock_path):
            files.desired_path.unlink(missing_ok=True)
        self.ensure_front()
        deadline = time.monotonic() + timeout.total_seconds()
        while files.status_path.exists():
            if time.monotonic() >= deadline:
                raise ServiceUnavailable(f"endpoint {name!r} still has requests after {timeout}; remove it again later")
            time.sleep(POLL)

    def stop(self) -> None:
        """Stop the front and all model servers; what they served is served again when a front starts."""
        with suppress(ConfigurationError):
            if record := self.folder.front():
                self._stop_front(record.process)
        stop_marked(FRONT_MARK, str(self.folder.path))
        stop_marked(MARK, str(self.folder.path))

    def _stop_front(self, process: Identity) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                return
            deadline = time.monotonic() + STOP_SECONDS
            while process.alive and time.monotonic() < deadline:
                time.sleep(POLL)


def _undamaged(files: EndpointFiles) -> tuple[Wish | None, Status]:
    """What is wished and reported; a damaged file counts as none, for a new wish mends it."""
    wish, status = None, Status()
    with suppress(ConfigurationError):
        status = files.status() or status
    with suppress(ConfigurationError):
        wish = files.desired()
    return wish, status


def _failed(wish: Wish, status: Status) -> bool:
    return status.generation == wish.generation and status.phase == "failed"


def _superseded(name: str, wish: Wish | None) -> str:
    if wish is None:
        return f"endpoint {name!r} was removed meanwhile"
    return f"endpoint {name!r}: another deployment, of {wish.model}, came in between"
