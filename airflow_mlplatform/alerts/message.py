"""What Alertmanager's webhook sends: version 4 of its format (prometheus.io, Configuration, ``webhook_config``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

__all__ = ["NO_ALERT", "Alert", "Message", "told"]

# PostgreSQL keeps no NUL in JSON.
Words = Annotated[str, Field(pattern=r"^[^\x00]*$")]
NO_ALERT: Mapping[str, Any] = {"name": "", "labels": {}, "annotations": {}, "since": "", "count": 0, "url": ""}
"""What runs are told that no alert started: the same keys, so that a template works in each run."""


class Received(BaseModel):
    """Base: Alertmanager may add keys, as it did before without another version."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Alert(Received):
    """One alert."""

    status: Literal["firing", "resolved"]
    labels: dict[Words, Words]
    annotations: dict[Words, Words] = {}
    since: AwareDatetime = Field(alias="startsAt")
    url: Words = Field(default="", alias="generatorURL")

    @property
    def name(self) -> str:
        """Its name; Prometheus gives each alert one, others that send to Alertmanager need not."""
        return self.labels.get("alertname", "")


class Message(Received):
    """A notification: alerts of one group."""

    version: Literal["4"]
    alerts: tuple[Alert, ...]

    @property
    def firing(self) -> dict[str, tuple[Alert, ...]]:
        """The alerts that fire, by name."""
        found: dict[str, tuple[Alert, ...]] = {}
        for alert in self.alerts:
            if alert.status == "firing":
                found[alert.name] = (*found.get(alert.name, ()), alert)
        return found


def told(alerts: tuple[Alert, ...]) -> dict[str, Any]:
    """Return what a run is told of the alerts that start it.

    :param alerts: at least one, all of the same name.
    """
    oldest = min(alerts, key=lambda alert: alert.since)
    return {
        "name": oldest.name,
        "labels": _shared(alert.labels for alert in alerts),
        "annotations": _shared(alert.annotations for alert in alerts),
        "since": oldest.since.astimezone(UTC).isoformat(timespec="seconds"),
        "count": len(alerts),
        "url": oldest.url,
    }


def _shared(mappings: Iterable[Mapping[str, str]]) -> dict[str, str]:
    first, *others = mappings
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
