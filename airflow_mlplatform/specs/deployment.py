"""``kind: deployment``: gate, approval, preflight, rollout, promotion."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from airflow_mlplatform.specs.alerts import DeploymentAlert
from airflow_mlplatform.specs.base import Duration, Items, Model, Text
from airflow_mlplatform.specs.common import EnvValue, Head, Resources, Toleration
from airflow_mlplatform.specs.training import Select

__all__ = [
    "Analysis",
    "Approval",
    "Autoscale",
    "Candidates",
    "Deployment",
    "Gate",
    "GateMetric",
    "Metric",
    "ModelRef",
    "Pause",
    "Rollout",
    "Serving",
    "Winner",
]

CANDIDATE = "challenger"
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
SERVICE_NAME = r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"


class Candidates(Model):
    """Versions of which one is chosen, for registries where none bears the candidate's alias."""

    tags: dict[str, str] = Field(default={}, description="Tags that a version must bear to be one of them.")
    stage: Text | None = Field(default=None, description="Stage that it must be in, as Staging (older registries).")
    select: Select | None = Field(
        default=None, description="Best of those that pass the gate, by a metric; the newest of them if left out."
    )


class ModelRef(Model):
    """The registered model and the aliases that play the two roles."""

    name: Text = Field(description="Name of the registered model.")
    candidate: Text = Field(default=CANDIDATE, description="Alias of the version that wants to be served.")
    candidates: Candidates | None = Field(default=None, description="Which versions want to be, instead of an alias.")
    champion: Text = Field(default="champion", description="Alias of the version that is served.")

    @model_validator(mode="after")
    def _two_roles(self) -> ModelRef:
        if self.candidate == self.champion:
            raise ValueError(f"candidate and champion are both {self.champion!r}; give them different aliases")
        if self.candidates and self.candidate != CANDIDATE:
            raise ValueError("candidate and candidates both say who wants to be served; keep one")
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
    timeout: Duration = Field(default="1d", validate_default=True, description="Time that they have to answer.")
    default: Literal["reject", "approve"] = Field(default="reject", description="What no answer by then means.")


class Gate(Model):
    """What a candidate must fulfil to be rolled out."""

    metrics: Items[GateMetric] = Field(default=(), description="What its metrics must fulfil.")
    same_data: Text = Field(
        default="mlplatform.data.slice",
        description="Tag that names the data of the metrics; where candidate and champion differ, no margin counts.",
    )
    min_age: Duration | None = Field(default=None, description="Time that a version must have been registered.")
    max_age: Duration | None = Field(default=None, description="Oldest version that is still considered.")
    tags: dict[str, str] = Field(default={}, description="Tags that the version must bear.")
    approval: Approval | None = Field(default=None, description="A person's yes before the rollout.")

    @model_validator(mode="after")
    def _ages_fit(self) -> Gate:
        if self.min_age and self.max_age and self.min_age >= self.max_age:
            raise ValueError("min_age is not below max_age, so no version can pass; lower min_age or raise max_age")
        return self


class Autoscale(Model):
    """Servers by load, instead of a fixed number (a HorizontalPodAutoscaler)."""

    min: int = Field(default=1, ge=1, description="Fewest servers.")
    max: int = Field(ge=1, description="Most servers.")
    cpu: int = Field(default=80, ge=1, le=100, description="Percent of the requested CPU to stay at.")

    @model_validator(mode="after")
    def _has_room(self) -> Autoscale:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}; swap them")
        return self


class Serving(Model):
    """The model server."""

    name: Annotated[str, Field(pattern=SERVICE_NAME)] = Field(
        description="Name of the endpoint (a DNS label that begins with a letter)."
    )
    namespace: Annotated[str, Field(pattern=DNS_LABEL)] = Field(default="models", description="Kubernetes namespace.")
    protocol: Literal["v2", "seldon"] = Field(default="v2", description="Inference protocol of Seldon.")
    image: Text | None = Field(default=None, description="Image of the model server; that of Seldon if left out.")
    replicas: int = Field(default=1, ge=1, description="Servers that share the load.")
    autoscale: Autoscale | None = Field(default=None, description="Servers by load, instead of replicas.")
    resources: Resources = Field(default=Resources(), description="CPU, memory and GPUs of each.")
    storage_secret: Text | None = Field(default=None, description="Kubernetes Secret with S3 credentials.")
    service_account: Text | None = Field(default=None, description="Kubernetes service account of the servers.")
    node_selector: dict[str, str] = Field(default={}, description="Labels that a node must bear.")
    tolerations: Items[Toleration] = Field(default=(), description="Taints of nodes that the servers bear.")
    env: dict[str, EnvValue] = Field(default={}, description="Environment variables of the servers.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] | None = Field(
        default=None, description="SELDON_LOG_LEVEL of the servers."
    )
    parameters: dict[str, str | int | float | bool] = Field(
        default={}, description="Parameters of the model server, as xtype: DataFrame."
    )
    ready_timeout: Duration = Field(
        default="10m", validate_default=True, description="Time that new servers have to become ready."
    )
    template: dict[str, Any] = Field(
        default={}, description="A SeldonDeployment that is completed; what the other keys say wins."
    )

    @model_validator(mode="after")
    def _one_size(self) -> Serving:
        if self.autoscale and "replicas" in self.model_fields_set:
            raise ValueError("replicas and autoscale both say how many servers there are; keep one")
        if self.autoscale and self.resources.cpu is None and not self.template:
            raise ValueError("autoscale goes by the requested CPU and none is requested; add resources: {cpu: 1}")
        return self

    @model_validator(mode="after")
    def _parameters_are_read(self) -> Serving:
        if self.parameters and self.protocol == "v2" and not self.image and not self.template:
            raise ValueError(
                "parameters: are read by servers of protocol seldon, and MLServer (v2) would ignore them; "
                "write protocol: seldon, or give MLServer its settings in env"
            )
        return self


Metric: TypeAlias = Literal["error-rate", "latency-p50", "latency-p95", "latency-p99"]
NAMES_IN_QUERIES = ("deployment", "predictor", "namespace", "window")
SLOWEST_MEASURED = 10
"""Seconds at which the histogram of Seldon's executor ends: whatever is slower looks like this."""


def check_query(query: str) -> None:
    """Refuse a query that names something unknown.

    :raises ValueError: naming it.
    """
    captured = set(re.findall(r"\(\?P?<(\w+)>", query))  # label_replace takes those with a $ too.
    for name in re.findall(r"\$\{?([A-Za-z_]\w*)", query):
        if name not in NAMES_IN_QUERIES and name not in captured:
            near = difflib.get_close_matches(name, NAMES_IN_QUERIES, 1)
            known = ", ".join(f"${known}" for known in NAMES_IN_QUERIES)
            raise ValueError(f"query: ${name} is unknown; " + (f"did you mean ${near[0]}?" if near else f"use {known}"))


class Analysis(Model):
    """A Prometheus query that must stay below or above a limit during the rollout."""

    name: Text = Field(description="Name in messages.")
    metric: Metric | None = Field(
        default=None, description="A query that is shipped: share of failed requests, or seconds."
    )
    query: Text | None = Field(
        default=None, description="PromQL with one number as its answer; $deployment, $predictor, $namespace, $window."
    )
    min: int | float | None = Field(default=None, description="Smallest value that is good.")
    max: int | float | None = Field(default=None, description="Largest value that is good.")
    min_samples: int = Field(
        default=1, ge=0, description="Requests of the step that must have been seen; 0 asks none to be counted."
    )

    @model_validator(mode="after")
    def _complete(self) -> Analysis:
        if (self.metric is None) == (self.query is None):
            raise ValueError("name either a metric that is shipped, or a query of your own")
        if self.min is None and self.max is None:
            raise ValueError("the query has no limit; add min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}; no value can pass")
        return self

    @model_validator(mode="after")
    def _can_be_told(self) -> Analysis:
        if self.query is not None:
            check_query(self.query)
        if self.metric == "error-rate" and self.max is not None and not 0 <= self.max < 1:
            raise ValueError(f"max: {self.max}: error-rate is a share of the requests; write 0.05 for 5 percent")
        if self.metric not in (None, "error-rate") and self.max is not None and not 0 < self.max < SLOWEST_MEASURED:
            raise ValueError(
                f"max: {self.max}: {self.metric} is in seconds, measured up to {SLOWEST_MEASURED}; write 0.2 for 200 ms"
            )
        return self


class Winner(Model):
    """How the winner of an A/B test is chosen."""

    query: Text = Field(description="PromQL with one number as its answer; $predictor is each of the two in turn.")
    best: Literal["min", "max"] = Field(description="Whether smaller or larger is better.")
    by: int | float = Field(default=0, ge=0, description="Lead that the candidate needs.")
    min_samples: int = Field(default=1, ge=1, description="Requests that each of the two must have had.")

    @model_validator(mode="after")
    def _asks_each(self) -> Winner:
        check_query(self.query)
        if not re.search(r"\$(predictor\b|\{predictor\})", self.query):
            raise ValueError("query: $predictor is missing, so both would be asked the same; put it in")
        return self


class Pause(Model):
    """A person's yes in the middle of a rollout."""

    after: Annotated[int, Field(ge=1, le=99)] = Field(description="Percent of traffic after whose analysis it waits.")
    users: Items[Text] = Field(min_length=1, description="Who may decide: Airflow user ids or names.")
    timeout: Duration = Field(default="1d", validate_default=True, description="Without an answer by then: rejected.")


class Rollout(Model):
    """How traffic moves to the candidate."""

    strategy: Literal["canary", "all-at-once", "shadow", "ab"] = Field(
        default="all-at-once", description="all-at-once; canary by steps; shadow; ab."
    )
    steps: Items[Annotated[int, Field(ge=1, le=100)]] = Field(
        default=(), description="Percent of traffic, ascending to 100 (canary)."
    )
    weight: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="Percent of requests for the candidate (ab, 50) or copied to it (shadow, 100)."
    )
    interval: Duration = Field(
        default="10m", validate_default=True, description="Time that each step, the test or the shadow lasts."
    )
    analysis: Items[Analysis] = Field(default=(), description="What must hold between the steps.")
    check_every: Duration = Field(default="1m", validate_default=True, description="Time between two looks.")
    failures: int = Field(default=0, ge=0, description="Failed looks in a row that are borne.")
    no_traffic: Literal["wait", "fail", "pass"] = Field(
        default="fail", description="What too few requests at the end of a step mean; wait: up to ten intervals."
    )
    pause: Pause | None = Field(default=None, description="A person's yes after a step (canary).")
    winner: Winner | None = Field(default=None, description="How an A/B test ends; it stays if left out.")
    when_busy: Literal["wait", "refuse"] = Field(
        default="wait", description="What to do while another rollout of the same name goes on."
    )

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

    @model_validator(mode="after")
    def _fits_strategy(self) -> Rollout:
        if self.weight is not None and self.strategy not in ("ab", "shadow"):
            raise ValueError(f"weight: belongs to strategy ab or shadow, not {self.strategy}; drop it")
        if self.winner is not None and self.strategy != "ab":
            raise ValueError(f"winner: belongs to strategy ab, not {self.strategy}; drop it or change strategy")
        if self.pause is not None and self.pause.after not in self.steps:
            raise ValueError(
                f"pause.after: {self.pause.after} is none of the steps {list(self.steps)}; name one of them"
            )
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
    on_alert: Items[DeploymentAlert] = Field(
        default=(), description="Alerts that start a run too, whatever the schedule is; docs/alerts.md."
    )
