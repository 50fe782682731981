"""``kind: deployment``: gate, approval, preflight, rollout, promotion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from airflow_mlplatform.specs.base import Duration, Items, Model, Text
from airflow_mlplatform.specs.common import Head, Resources

__all__ = ["Analysis", "Approval", "Deployment", "Gate", "GateMetric", "ModelRef", "Rollout", "Serving"]

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"


class ModelRef(Model):
    """The registered model and the aliases that play the two roles."""

    name: Text = Field(description="Name of the registered model.")
    candidate: Text = Field(default="challenger", description="Alias of the version that wants to be served.")
    champion: Text = Field(default="champion", description="Alias of the version that is served.")

    @model_validator(mode="after")
    def _two_roles(self) -> ModelRef:
        if self.candidate == self.champion:
            raise ValueError(f"candidate and champion are both {self.champion!r}; give them different aliases")
        return self


class GateMetric(Model):
    """What one metric of the candidate must fulfil."""

    name: Text = Field(description="Metric of the candidate's run.")
    min: int | float | None = Field(default=None, description="Smallest value that is good enough.")
    max: int | float | None = Field(default=None, description="Largest value that is good enough.")
    beats_champion_by: int | float | None = Field(
        default=None, ge=0, description="Margin by which the candidate must beat the champion; needs best."
    )
    best: Literal["min", "max"] | None = Field(default=None, description="Whether smaller or larger is better.")

    @model_validator(mode="after")
    def _says_something(self) -> GateMetric:
        if self.min is None and self.max is None and self.beats_champion_by is None:
            raise ValueError("the metric is named but nothing is asked of it; add min, max or beats_champion_by")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}; no value can pass")
        if self.beats_champion_by is not None and self.best is None:
            raise ValueError("beats_champion_by needs to know which way is better; add best: min or best: max")
        return self


class Approval(Model):
    """A person's yes before the rollout."""

    users: Items[Text] = Field(min_length=1, description="Who may decide: Airflow user ids or names.")
    timeout: Duration = Field(default="1d", validate_default=True, description="Without an answer by then: rejected.")


class Gate(Model):
    """What a candidate must fulfil to be rolled out."""

    metrics: Items[GateMetric] = Field(default=(), description="What its metrics must fulfil.")
    max_age: Duration | None = Field(default=None, description="Oldest version that is still considered.")
    tags: dict[str, str] = Field(default={}, description="Tags that the version must bear.")
    approval: Approval | None = Field(default=None, description="A person's yes before the rollout.")


class Serving(Model):
    """The model server."""

    name: Annotated[str, Field(pattern=DNS_LABEL)] = Field(description="Name of the endpoint (a DNS label).")
    namespace: Annotated[str, Field(pattern=DNS_LABEL)] = Field(default="models", description="Kubernetes namespace.")
    protocol: Literal["v2", "seldon"] = Field(default="v2", description="Inference protocol of Seldon.")
    replicas: int = Field(default=1, ge=1, description="Servers that share the load.")
    resources: Resources = Field(default=Resources(), description="CPU, memory and GPUs of each.")
    storage_secret: Text | None = Field(default=None, description="Kubernetes Secret with S3 credentials.")


class Analysis(Model):
    """A Prometheus query that must stay below or above a limit during the rollout."""

    name: Text = Field(description="Name in messages.")
    query: Text = Field(description="PromQL with one number as its answer.")
    min: int | float | None = Field(default=None, description="Smallest value that is good.")
    max: int | float | None = Field(default=None, description="Largest value that is good.")
    min_samples: int = Field(default=1, ge=1, description="Requests that must have been seen.")

    @model_validator(mode="after")
    def _has_a_limit(self) -> Analysis:
        if self.min is None and self.max is None:
            raise ValueError("the query has no limit; add min or max")
        return self


class Rollout(Model):
    """How traffic moves to the candidate."""

    strategy: Literal["canary", "all-at-once", "shadow", "ab"] = Field(
        default="all-at-once", description="all-at-once; canary by steps; shadow; ab."
    )
    steps: Items[Annotated[int, Field(ge=1, le=100)]] = Field(
        default=(), description="Percent of traffic, ascending to 100 (canary)."
    )
    interval: Duration = Field(default="10m", validate_default=True, description="Time between steps.")
    analysis: Items[Analysis] = Field(default=(), description="What must hold between the steps.")

    @model_validator(mode="after")
    def _steps_fit(self) -> Rollout:
        if self.strategy == "canary":
            if not self.steps:
                raise ValueError("canary needs steps; add steps: [5, 25, 50, 100]")
            if list(self.steps) != sorted(set(self.steps)) or self.steps[-1] != 100:
                raise ValueError(f"steps: {list(self.steps)} does not ascend to 100; write them like [5, 25, 50, 100]")
        elif self.steps:
            raise ValueError(f"steps: belong to strategy canary, not {self.strategy}; drop them or change strategy")
        if self.strategy == "all-at-once" and self.analysis:
            raise ValueError("analysis: happens between steps and all-at-once has none; use strategy: canary")
        return self


class Deployment(Head):
    """The best model, served."""

    kind: Literal["deployment"] = Field(description="What the spec describes.")
    model: ModelRef = Field(description="The registered model.")
    gate: Gate = Field(default=Gate(), description="What a candidate must fulfil.")
    preflight: bool = Field(
        default=True, description="Ask the candidate its own input example, in the serving environment, first."
    )
    serving: Serving = Field(description="The model server.")
    rollout: Rollout = Field(default=Rollout(), description="How traffic moves to the candidate.")
