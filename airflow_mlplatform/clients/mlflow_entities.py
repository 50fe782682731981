"""What MLflow's REST API answers, parsed once into frozen objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Experiment", "LoggedModel", "ModelVersion", "RegisteredModel", "Run", "RunStatus"]

RunStatus = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]


def _pairs(items: Iterable[Mapping[str, Any]] | None) -> dict[str, Any]:
    # A key that was set without a value comes back without "value".
    return {item["key"]: item.get("value", "") for item in items or ()}


def _moment(milliseconds: str | int | None) -> datetime | None:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC) if milliseconds else None


@dataclass(frozen=True)
class Experiment:
    """A group of runs.

    :param lifecycle_stage: ``active``, or ``deleted`` (its name stays taken).
    """

    experiment_id: str
    name: str
    lifecycle_stage: str

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read it from MLflow's JSON."""
        return cls(data["experiment_id"], data["name"], data.get("lifecycle_stage", "active"))


@dataclass(frozen=True)
class Run:
    """One run; metrics hold the last value of each, which may be NaN.

    :param start_time: UTC.
    :param end_time: UTC; ``None`` while it runs.
    :param model_ids: ids (``m-…``) of the models it logged, oldest first.
    """

    run_id: str
    experiment_id: str
    name: str
    status: RunStatus
    start_time: datetime | None
    end_time: datetime | None
    artifact_uri: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    model_ids: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        """Whether it has not been closed yet."""
        return self.status in ("RUNNING", "SCHEDULED")

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read it from MLflow's JSON."""
        info, contents = data["info"], data.get("data") or {}
        outputs = (data.get("outputs") or {}).get("model_outputs") or ()
        return cls(
            run_id=info["run_id"],
            experiment_id=info["experiment_id"],
            name=info.get("run_name", ""),
            status=info["status"],
            start_time=_moment(info.get("start_time")),
            end_time=_moment(info.get("end_time")),
            artifact_uri=info.get("artifact_uri", ""),
            params=_pairs(contents.get("params")),
            metrics={key: float(value) for key, value in _pairs(contents.get("metrics")).items()},
            tags=_pairs(contents.get("tags")),
            model_ids=tuple(output["model_id"] for output in outputs),
        )


@dataclass(frozen=True)
class LoggedModel:
    """A model that a run logged, before it is registered.

    :param ready: whether all its files have been uploaded.
    """

    model_id: str
    name: str
    run_id: str
    artifact_uri: str
    ready: bool
    creation_time: datetime | None

    @property
    def uri(self) -> str:
        """``models:/m-…``, by which MLflow loads it."""
        return f"models:/{self.model_id}"

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read it from MLflow's JSON."""
        info = data["info"]
        return cls(
            model_id=info["model_id"],
            name=info.get("name", ""),
            run_id=info.get("source_run_id", ""),
            artifact_uri=info.get("artifact_uri", ""),
            ready=info.get("status") == "LOGGED_MODEL_READY",
            creation_time=_moment(info.get("creation_timestamp_ms")),
        )


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model.

    :param version: its number.
    :param run_id: the run that it comes from; empty if unknown.
    :param source: where its files lie, e.g. ``models:/m-…``.
    :param model_id: the logged model it was made from, ``m-…``; empty for versions of older servers.
    :param creation_time: UTC.
    :param status: ``READY``, ``PENDING_REGISTRATION`` or ``FAILED_REGISTRATION``.
    :param stage: ``Staging``, ``Production``, ``Archived`` or ``None``; what MLflow had before there were aliases.
    """

    name: str
    version: int
    run_id: str
    source: str
    model_id: str
    creation_time: datetime
    status: str = "READY"
    status_message: str = ""
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    stage: str = ""

    @property
    def uri(self) -> str:
        """``models:/name/version``, by which MLflow loads it."""
        return f"models:/{self.name}/{self.version}"

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read it from MLflow's JSON."""
        source = data.get("source", "")
        return cls(
            name=data["name"],
            version=int(data["version"]),
            run_id=data.get("run_id", ""),
            source=source,
            model_id=data.get("model_id") or _model_id_of(source),
            creation_time=datetime.fromtimestamp(int(data["creation_timestamp"]) / 1000, UTC),
            status=data.get("status", "READY"),
            status_message=data.get("status_message", ""),
            aliases=tuple(data.get("aliases") or ()),
            tags=_pairs(data.get("tags")),
            stage=data.get("current_stage", ""),
        )


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model.

    :param aliases: number of the version that bears each.
    :param created: when it was made, in milliseconds since 1970; tells apart two of one name, one deleted.
    """

    name: str
    aliases: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    created: int = 0

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read it from MLflow's JSON."""
        aliases = {item["alias"]: int(item["version"]) for item in data.get("aliases") or ()}
        return cls(data["name"], aliases, _pairs(data.get("tags")), int(data.get("creation_timestamp") or 0))


def _model_id_of(source: str) -> str:
    name = source.removeprefix("models:/")
    return name if name != source and name.startswith("m-") and "/" not in name else ""
