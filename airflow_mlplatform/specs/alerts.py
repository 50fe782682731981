"""``on_alert``: which alerts of Prometheus start a run, beside whatever the schedule says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from airflow_mlplatform.specs.base import Duration, Model

__all__ = ["ALERT_PARAM", "DeploymentAlert", "OnAlert"]

ALERT_PARAM = "alert"
"""The param in which a run finds the alert that started it."""
LONGEST_NAME = 90  # A tag of Airflow bears the name, and those end at 100 characters.


class OnAlert(Model):
    """An alert that starts a run; a hundred of them, and each repetition, start one."""

    alert: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)] = Field(
        description="Name of the alert (alertname)."
    )
    labels: dict[str, str] = Field(
        default={}, description="Labels that the alert must bear with these values; its other labels do not matter."
    )
    cooldown: Duration = Field(
        default="6h",
        validate_default=True,
        description="Time after the end of a run that an alert started in which none starts the next.",
    )

    @field_validator("labels")
    @classmethod
    def _labels_are_more_than_the_name(cls, labels: dict[str, str]) -> dict[str, str]:
        if "alertname" in labels:
            raise ValueError("alertname is what alert: says already; drop it from labels")
        return labels


class DeploymentAlert(OnAlert):
    """An alert about a served model."""

    labels: dict[str, str] = Field(
        min_length=1,
        description="Labels that the alert must bear with these values; they say whose alert it is, as "
        "deployment_name: wine.",
    )
    action: Literal["rollback", "deploy"] = Field(
        description="What the run is for: one step back, or rolling out the candidate."
    )
