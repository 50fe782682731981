"""``on_alert`` in a DAG: tags by which the API server finds it, and the param in which a run finds its alert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from airflow_mlplatform.alerts.listener import SCHEMA_KEY, Listener, tag_of
from airflow_mlplatform.alerts.message import NO_ALERT
from airflow_mlplatform.specs.alerts import ALERT_PARAM

if TYPE_CHECKING:
    from airflow_mlplatform.specs.kinds import Spec

__all__ = ["alert_params", "alert_tags", "alerts_told"]


def alert_tags(spec: Spec) -> list[str]:
    """Return a tag for each alert that starts the DAG."""
    return sorted({tag_of(listener.alert) for listener in _listeners(spec)})


def alert_params(spec: Spec) -> dict[str, Param]:
    """Return the param that tells a run its alert, and the API server what the DAG listens to."""
    if not spec.on_alert:
        return {}
    description = f"Filled in by an alert: {'; '.join(alerts_told(spec))}."
    schema: dict[str, Any] = {SCHEMA_KEY: [listener.model_dump(mode="json") for listener in _listeners(spec)]}
    return {ALERT_PARAM: Param(dict(NO_ALERT), description=description, type="object", **schema)}


def alerts_told(spec: Spec) -> list[str]:
    """Return what the DAG listens to, each in a few words."""
    return [str(listener) for listener in _listeners(spec)]


def _listeners(spec: Spec) -> list[Listener]:
    return [Listener.of(wish) for wish in spec.on_alert]
