"""The head that every kind shares, and the values that appear in more than one kind."""

from __future__ import annotations

import datetime
import re
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from croniter import croniter
from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from airflow_mlplatform.specs.alerts import ALERT_PARAM, OnAlert
from airflow_mlplatform.specs.base import DURATION_PATTERN, Duration, Items, Model, Name, Text, Uri, parse_duration

__all__ = [
    "AllAssets",
    "AnyAsset",
    "ConnectionRef",
    "Defaults",
    "EnvValue",
    "Head",
    "Param",
    "RegistryChange",
    "Resources",
    "Retries",
    "Schedule",
    "SecretRef",
    "Toleration",
]

PRESETS = ("@once", "@continuous", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
CPU = r"^[0-9]+(\.[0-9]+)?m?$"
MEMORY = r"^[0-9]+(\.[0-9]+)?(k|Ki|M|Mi|G|Gi|T|Ti)?$"
LABEL_NAME = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
LABEL_VALUE = re.compile(rf"({LABEL_NAME})?")
LABEL_KEY = re.compile(rf"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{LABEL_NAME}")


class SecretRef(Model):
    """A value that lies in a Kubernetes Secret."""

    secret: Text = Field(description="Name of the Kubernetes Secret.")
    key: Text = Field(description="Key inside the Secret.")


class ConnectionRef(Model):
    """A value that lies in an Airflow connection: its password."""

    connection: Text = Field(description="Id of the Airflow connection whose password is meant.")


def _env_kind(value: Any) -> str:
    if isinstance(value, (SecretRef, ConnectionRef)):
        return type(value).__name__
    if isinstance(value, dict):
        return "ConnectionRef" if "connection" in value else "SecretRef"
    return "text"


EnvValue = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[SecretRef, Tag("SecretRef")]
    | Annotated[ConnectionRef, Tag("ConnectionRef")],
    Discriminator(_env_kind),
]


class Resources(Model):
    """What a task asks of the node; on this machine only the memory is heeded (by the ETL engine)."""

    cpu: Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0)] | Annotated[str, Field(pattern=CPU)] | None = (
        Field(default=None, description="CPUs, as in Kubernetes: 1, 0.5 or 500m.")
    )
    memory: Annotated[str, Field(pattern=MEMORY)] | None = Field(
        default=None, description="Memory, as in Kubernetes: 512Mi, 2Gi. Request and limit are the same."
    )
    gpu: int = Field(default=0, ge=0, description="Whole GPUs (nvidia.com/gpu).")


class Toleration(Model):
    """A taint of nodes that a pod bears, in Kubernetes' own words."""

    key: Text | None = Field(default=None, description="Key of the taint; every taint if left out.")
    operator: Literal["Equal", "Exists"] = Field(default="Equal", description="How value is compared.")
    value: str | None = Field(default=None, description="Value of the taint, with operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; every effect if left out."
    )
    tolerationSeconds: int | None = Field(
        default=None, description="How long NoExecute is borne; for ever if left out."
    )

    @model_validator(mode="after")
    def _as_kubernetes_wants_it(self) -> Toleration:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("operator Exists takes no value; drop value, or write operator: Equal")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("without a key every taint is meant; write operator: Exists, or add key")
        if self.tolerationSeconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds goes with NoExecute only; write effect: NoExecute, or drop it")
        return self


class Defaults(Model):
    """Where and with what each task of the spec runs."""

    image: Text | None = Field(
        default=None,
        description="Image of the pods (of ETL stages: with Airflow and this package); the worker image if left out.",
    )
    resources: Resources = Field(default=Resources(), description="CPU, memory and GPUs of each task.")
    service_account: Text | None = Field(default=None, description="Kubernetes service account of the tasks' pods.")
    env: dict[str, EnvValue] = Field(
        default={}, description="Environment variables: text, {secret: …, key: …} or {connection: …}."
    )
    node_selector: dict[str, str] = Field(default={}, description="Labels that the node must bear.")
    tolerations: Items[Toleration] = Field(default=(), description="Taints of nodes that the pods bear.")
    labels: dict[str, str] = Field(default={}, description="Labels of the pods.")

    @field_validator("env")
    @classmethod
    def _env_names(cls, env: dict[str, Any]) -> dict[str, Any]:
        for name in env:
            if not ENV_NAME.match(name):
                raise ValueError(f"{name!r} is no name of an environment variable; use letters, digits and _")
        return env

    @field_validator("labels", "node_selector")
    @classmethod
    def _labels(cls, labels: dict[str, str]) -> dict[str, str]:
        for key, value in labels.items():
            if not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
                raise ValueError(
                    f"{key}: {value!r} is no label of Kubernetes; use at most 63 letters, digits, -, _ and ., with a "
                    "letter or digit at both ends"
                )
        return labels


class Retries(Model):
    """How often and when a failed task is tried again."""

    count: int = Field(default=2, ge=0, le=100, description="Tries after the first one.")
    delay: Duration = Field(default="5m", validate_default=True, description="Pause before each retry.")


class Param(Model):
    """A param of the trigger form: JSON Schema, as Airflow's own ``Param`` takes it."""

    type: str | Items[str] | None = Field(default=None, description="JSON Schema type, or a list of them.")
    default: Any = Field(default=None, description="Value where the run gives none.")
    title: str | None = Field(default=None, description="Label in the form.")
    description: str | None = Field(default=None, description="Help text in the form.")
    enum: Items[Any] | None = Field(default=None, min_length=1, description="The values that are allowed.")
    minimum: float | int | None = Field(default=None, description="Smallest number.")
    maximum: float | int | None = Field(default=None, description="Largest number.")
    minLength: int | None = Field(default=None, ge=0, description="Shortest text.")
    maxLength: int | None = Field(default=None, ge=0, description="Longest text.")
    pattern: str | None = Field(default=None, description="Regular expression that text must match.")
    format: str | None = Field(default=None, description="JSON Schema format: date, date-time, multiline …")
    items: dict[str, Any] | None = Field(default=None, description="JSON Schema of the items of an array.")

    @model_validator(mode="after")
    def _default_fits(self) -> Param:
        import jsonschema

        try:
            jsonschema.Draft202012Validator.check_schema(self.schema_without_default)
            if "default" in self.model_fields_set:
                jsonschema.validate(self.default, self.schema_without_default)
        except jsonschema.SchemaError as error:
            raise ValueError(f"no valid JSON Schema: {error.message}; see Airflow's documentation of params") from None
        except jsonschema.ValidationError as error:
            raise ValueError(f"the default does not fit: {error.message}; change default or the limits") from None
        return self

    @cached_property
    def schema_without_default(self) -> dict[str, Any]:
        """The JSON Schema of the value."""
        return self.model_dump(mode="json", exclude_unset=True, exclude={"default"})


class AllAssets(Model):
    """Run when all of these assets have changed since the last run."""

    assets: Items[Uri] = Field(min_length=1, description="Asset URIs; the run starts when all have changed.")


class AnyAsset(Model):
    """Run when any of these assets changes."""

    any: Items[Uri] = Field(min_length=1, description="Asset URIs; the run starts when one of them changes.")


class RegistryChange(Model):
    """Run when an alias of a registered model moves to another version."""

    model: Text = Field(description="Name of the registered model in MLflow.")
    alias: Text = Field(description="Alias to watch.")


def _check_schedule_text(text: str) -> str:
    if text.startswith("@"):
        if text not in PRESETS:
            raise ValueError(f"{text!r} is no preset; write one of {', '.join(PRESETS)}")
    elif re.match(DURATION_PATTERN, text):
        parse_duration(text)
    elif len(text.split()) != 5 or not croniter.is_valid(text):
        raise ValueError(
            f"{text!r} is no schedule; write a cron expression of five fields (0 6 * * *), a preset (@daily) "
            "or a duration (6h)"
        )
    return text


def _schedule_kind(value: Any) -> str:
    if isinstance(value, Model):
        return type(value).__name__
    if isinstance(value, dict):
        if "any" in value:
            return "AnyAsset"
        return "RegistryChange" if "model" in value or "alias" in value else "AllAssets"
    return "text"


Schedule = Annotated[
    Annotated[str, AfterValidator(_check_schedule_text), Tag("text")]
    | Annotated[AllAssets, Tag("AllAssets")]
    | Annotated[AnyAsset, Tag("AnyAsset")]
    | Annotated[RegistryChange, Tag("RegistryChange")],
    Discriminator(_schedule_kind),
]


class Head(Model):
    """The keys that every kind shares; Airflow's own words keep Airflow's meaning."""

    apiVersion: Literal["mlplatform/v1"] = Field(description="Version of the spec language.")
    name: Name = Field(description="Name of the pipeline: the dag_id.")
    description: str = Field(default="", description="What it is for, in a line; shown in the list of DAGs.")
    owner: Text = Field(default="airflow", description="Who answers for it.")
    tags: Items[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        default=(), description="Tags to find it by."
    )
    schedule: Schedule | None = Field(
        default=None,
        description="When it runs: cron, preset, duration, null (by hand), {assets: […]} (all changed), "
        "{any: […]} (one changed) or {model: …, alias: …} (a registry change).",
    )
    on_alert: Items[OnAlert] = Field(
        default=(), description="Alerts that start a run too, whatever the schedule is; docs/alerts.md."
    )
    start: datetime.date = Field(default=datetime.date(2025, 1, 1), description="First day that is scheduled.")
    catchup: bool = Field(default=False, description="Whether to run the intervals since start that were missed.")
    retries: Retries = Field(default=Retries(), description="How failed tasks are tried again.")
    timeout: Duration | None = Field(default=None, description="Longest time a task may take.")
    params: dict[str, Param] = Field(default={}, description="Airflow params: the trigger form.")
    defaults: Defaults = Field(default=Defaults(), description="Where and with what each task runs.")

    @field_validator("start", mode="before")
    @classmethod
    def _start_is_a_day(cls, value: Any) -> Any:
        if isinstance(value, datetime.datetime):
            raise ValueError("start is a day without a time; write 2026-01-01")
        return value

    @field_validator("params")
    @classmethod
    def _param_names(cls, params: dict[str, Any]) -> dict[str, Any]:
        for name in params:
            if not name.isidentifier():
                raise ValueError(f"{name!r} cannot be used as params.{name}; use letters, digits and _")
        return params

    @model_validator(mode="after")
    def _alerts_can_start_it(self) -> Self:
        if self.on_alert and ALERT_PARAM in self.params:
            raise ValueError(f"params: {ALERT_PARAM} is where a run finds its alert; give yours another name")
        for name, param in self.params.items() if self.on_alert else ():
            if "default" not in param.model_fields_set:
                raise ValueError(f"on_alert: an alert knows no value for params.{name}; give that param a default")
        return self
