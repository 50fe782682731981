"""What the deploying side wishes and what the front reports: small JSON files, each written in one stroke.

::

    <state_dir>/serving/
        front.lock  front.json  front.log
        <endpoint>.lock
        <endpoint>/
            desired.json     written by the deploying side
            status.json      written by the front
            traffic.json     written by the front: the requests since they are divided as they are
            logs/<servers>-<replica>.log
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.runtime.local import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlplatform.clients.mlflow_entities import ModelVersion

__all__ = [
    "CANDIDATE",
    "MAIN",
    "Backend",
    "Candidate",
    "EndpointFiles",
    "EnvManager",
    "FrontRecord",
    "Phase",
    "Record",
    "ServedModel",
    "Servers",
    "Status",
    "Wish",
    "locked",
    "read",
    "write",
]

MAIN, CANDIDATE = "main", "candidate"
"""Names of the predictors, as on Kubernetes."""
EnvManager = Literal["local", "uv", "virtualenv", "conda"]
Phase = Literal["progressing", "ready", "failed"]


class Record(BaseModel):
    """A frozen record; keys that a newer version of the package added are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


R = TypeVar("R", bound=Record)


class ServedModel(Record):
    """A version of a registered model, as the promotion gate's verdict names it.

    :param name: name of the registered model.
    :param version: its version.
    :param run_id: MLflow run that made it; tells apart equal versions of two registries.
    :param source: where its files lie, as the registry says.
    :param model_uri: URI that MLflow downloads; ``models:/<name>/<version>`` if left out.
    """

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    run_id: str = ""
    source: str = ""
    model_uri: str = ""

    @classmethod
    def of(cls, version: ModelVersion) -> ServedModel:
        """Describe a version as the registry has it."""
        return cls(
            name=version.name,
            version=str(version.version),
            run_id=version.run_id,
            source=version.source,
            model_uri=version.uri,
        )

    @property
    def uri(self) -> str:
        """The URI to download."""
        return self.model_uri or f"models:/{self.name}/{self.version}"

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


class Servers(Record):
    """Servers of one model.

    :param model: the model version.
    :param folder: where the model lies on this machine (the folder with its ``MLmodel``).
    :param env_manager: where the model's packages come from; ``local`` is this Python.
    :param replicas: how many servers share the load.
    :param ready_timeout: seconds that a server may take to come up.
    :param drain_timeout: seconds that requests on the former servers may take to end after the switch.
    """

    model: ServedModel
    folder: Path
    env_manager: EnvManager = "local"
    replicas: int = Field(default=1, ge=1)
    ready_timeout: float = 300.0
    drain_timeout: float = 30.0

    @cached_property
    def fingerprint(self) -> str:
        """Equal for two wishes that the same servers fulfil."""
        content = self.model_dump_json(include={"model", "folder", "env_manager", "replicas"})
        return hashlib.sha256(content.encode()).hexdigest()


class Candidate(Servers):
    """Servers of a model that gets a part of the requests.

    :param weight: percent of the requests; of a shadow, percent that is copied to it.
    :param shadow: whether it gets copies and nobody its answers.
    """

    weight: int = Field(ge=0, le=100)
    shadow: bool = False


class Wish(Servers):
    """What an endpoint shall serve: a model, and maybe a candidate beside it.

    :param generation: counts the wishes of this endpoint.
    :param candidate: who shares the requests; ``None`` if nobody does.
    :param notes: of whoever directs a rollout; the front does not read them.
    """

    generation: int
    candidate: Candidate | None = None
    notes: dict[str, str] = {}

    @property
    def predictors(self) -> dict[str, Servers]:
        """All servers, by what they are called in metrics."""
        return {MAIN: self, **({CANDIDATE: self.candidate} if self.candidate else {})}

    @cached_property
    def division(self) -> str:
        """Equal for two wishes that divide the requests equally among the same servers."""
        shared = f"{self.candidate.weight} {self.candidate.shadow}" if self.candidate else ""
        return " ".join([*(servers.fingerprint for servers in self.predictors.values()), shared])


class Backend(Record):
    """A model server that takes requests.

    :param process: the leader of its process group.
    :param port: its port on the loopback interface.
    :param fingerprint: of its :class:`Servers`; empty if they are the only ones.
    """

    process: Identity
    port: int
    fingerprint: str = ""


class Status(Record):
    """What the front made of a wish.

    :param generation: the wish that this is about.
    :param phase: ``progressing``, ``ready`` (it serves) or ``failed`` (what served before still does).
    :param message: why, with the end of the server's log where it failed.
    :param lasting: whether another try would fail in the same way.
    :param serving: the wish whose servers take the requests; ``None`` before the first success.
    :param backends: those servers.
    :param down: why servers that should be up are not, by predictor.
    :param crashing: the predictors among them whose servers have died again and again.
    :param former_version: the version that served before the last switch.
    """

    generation: int = 0
    phase: Phase = "progressing"
    message: str = ""
    lasting: bool = False
    serving: Wish | None = None
    backends: tuple[Backend, ...] = ()
    down: dict[str, str] = {}
    crashing: tuple[str, ...] = ()
    former_version: str | None = None


class FrontRecord(Record):
    """The front that runs.

    :param process: its process.
    :param address: ``host:port`` on which it listens.
    """

    process: Identity
    address: str


def read(path: Path, kind: type[R]) -> R | None:
    """Read a record; ``None`` if the file is not there.

    :raises ConfigurationError: if the file holds something else.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise ConfigurationError(
            f"{path} is not the file that this package writes ({error.error_count()} problems, first: "
            f"{error.errors()[0]['msg']}); delete it and deploy again"
        ) from error


def write(path: Path, record: Record) -> None:
    """Write a record so that a reader, or a machine that loses power, sees the former content or all of the new."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(record.model_dump_json(indent=2))
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the system lets go of it when this process dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class EndpointFiles:
    """The files of one endpoint.

    :param folder: its folder; made by :meth:`make`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.lock_path = folder.parent / f"{folder.name}.lock"
        self.desired_path = folder / "desired.json"
        self.status_path = folder / "status.json"
        self.traffic_path = folder / "traffic.json"
        self.logs = folder / "logs"

    def make(self) -> None:
        """Make the folder; only its owner may look inside."""
        self.logs.mkdir(parents=True, exist_ok=True, mode=0o700)

    def desired(self) -> Wish | None:
        """What shall be served; ``None`` if nothing."""
        return read(self.desired_path, Wish)

    def status(self) -> Status | None:
        """What the front reported last."""
        return read(self.status_path, Status)
