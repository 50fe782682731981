"""``kind: streaming``: topics, what fills them, an application between them, and where its results go."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from airflow_mlplatform.specs.base import Duration, Items, Model, Text
from airflow_mlplatform.specs.common import ENV_NAME, EnvValue, Head, Resources, SecretRef

__all__ = ["App", "AppGit", "AppRollout", "Connector", "Probes", "Streaming", "Topic"]

Value = bool | int | float | str
Path = Annotated[str, Field(pattern=r"^/\S*$")]
# A template that takes something out of an Airflow connection or variable.
CREDENTIAL = re.compile(r"\{[{%].*?\b(conn|var)\b", re.DOTALL)
TOPIC_NAME = r"^[A-Za-z0-9._-]{1,249}$"


class Topic(Model):
    """A topic: made if it is not there, compared with what is there if it is."""

    name: Annotated[str, Field(pattern=TOPIC_NAME)] = Field(description="Name of the topic.")
    partitions: int | None = Field(
        default=None, ge=1, description="Partitions; they only grow. The brokers' default if left out."
    )
    replication: int | None = Field(
        default=None, ge=1, description="Copies of each partition. The brokers' default if left out."
    )
    config: dict[str, Value] = Field(
        default={}, description="Settings of the topic (cleanup.policy: compact …); others stay as they are."
    )

    @field_validator("name")
    @classmethod
    def _not_dots(cls, name: str) -> str:
        if name in (".", ".."):
            raise ValueError(f"{name!r} is no name of a topic; use letters, digits, -, _ and .")
        return name


class Connector(Model):
    """A connector of Kafka Connect."""

    name: Text = Field(description="Name of the connector in its Connect cluster.")
    config: dict[str, Value] = Field(
        description="Its configuration, connector.class at least; secrets as ${file:…}, ${env:…} and the like."
    )

    @model_validator(mode="after")
    def _has_a_class(self) -> Connector:
        if "connector.class" not in self.config:
            raise ValueError("config lacks connector.class; write the class of the plugin")
        if "name" in self.config:
            raise ValueError("config names the connector, which name does already; drop it from config")
        return self


class AppGit(Model):
    """Where the application's code lies; each pod fetches it before it starts."""

    url: Text = Field(description="Git URL (https://…, git@host:path); …#subfolder for a part of the repository.")
    ref: Text | None = Field(
        default=None, description="Branch, tag or commit; a branch that moved is a new version at the next run."
    )
    secret: SecretRef | None = Field(
        default=None,
        description="Token (https) or private key (ssh) for a private repository; the Secret's keys username and "
        "known_hosts count too, where they are there.",
    )


class Probes(Model):
    """How Kubernetes asks the application whether it is well: by HTTP."""

    port: int = Field(ge=1, le=65535, description="Port on which the application answers.")
    ready: Path | None = Field(default=None, description="Path that answers 200 once the application works.")
    live: Path | None = Field(default=None, description="Path that answers 200 as long as it needs no restart.")

    @model_validator(mode="after")
    def _asks_something(self) -> Probes:
        if self.ready is None and self.live is None:
            raise ValueError("the port is named but no path; add ready or live")
        return self


class AppRollout(Model):
    """When a new version counts as well."""

    timeout: Duration = Field(
        default="15m", validate_default=True, description="By then it must be well; if not, the former version is back."
    )
    settle: Duration = Field(
        default="10s", validate_default=True, description="How long each pod must stay ready without a break."
    )
    max_lag: int | None = Field(
        default=None, ge=0, description="Records that the group may be behind; if left out, its lag must be 0 or fall."
    )

    @model_validator(mode="after")
    def _time_to_settle(self) -> AppRollout:
        if self.settle >= self.timeout:
            raise ValueError("settle takes longer than timeout leaves; make timeout the longer one")
        return self


class App(Model):
    """An application in a Deployment of its own."""

    image: Text | None = Field(default=None, description="Its image; that of defaults if left out.")
    git: AppGit | None = Field(default=None, description="Its code, if the image does not hold it.")
    entrypoint: Items[Text] = Field(
        default=(), description="Command and arguments, run in the code's folder; the image's own if left out."
    )
    replicas: int = Field(default=1, ge=1, le=1000, description="Pods that share the work.")
    group: Text | None = Field(
        default=None, description="Its consumer group; named, a rollout waits until that is stable and its lag falls."
    )
    env: dict[str, EnvValue] = Field(
        default={}, description="Environment variables: text or {secret: …, key: …}; they win over those of defaults."
    )
    resources: Resources | None = Field(default=None, description="CPU, memory and GPUs of each pod; else of defaults.")
    probes: Probes | None = Field(default=None, description="How Kubernetes asks whether it is well.")
    grace: Duration = Field(
        default="30s", validate_default=True, description="Time between SIGTERM and SIGKILL when a pod ends."
    )
    rollout: AppRollout = Field(default=AppRollout(), description="When a new version counts as well.")

    @field_validator("env")
    @classmethod
    def _fits_a_deployment(cls, env: dict[str, EnvValue]) -> dict[str, EnvValue]:
        for name, value in env.items():
            if not ENV_NAME.match(name):
                raise ValueError(f"{name!r} is no name of an environment variable; use letters, digits and _")
            if isinstance(value, str) and CREDENTIAL.search(value):
                raise ValueError(
                    f"{name} would stand readable in the Deployment; write {{secret: NAME, key: KEY}} of a Secret"
                )
        return env


class Streaming(Head):
    """Topics, connectors and an application that work until they are told to end."""

    kind: Literal["streaming"] = Field(description="What the spec describes.")
    kafka: Text = Field(default="kafka_default", description="Airflow connection (type kafka) of the brokers.")
    connect: Text = Field(
        default="kafka_connect_default", description="Airflow connection (type kafka_connect) of Kafka Connect."
    )
    state: Literal["running", "paused", "absent"] = Field(
        default="running", description="What a run brings about; absent takes all down, in reverse order."
    )
    delete_topics: bool = Field(default=False, description="Whether absent deletes the topics too, with their data.")
    topics: Items[Topic] = Field(default=(), description="Topics, made or checked first.")
    sources: Items[Connector] = Field(default=(), description="Connectors that bring data into Kafka.")
    app: App | None = Field(default=None, description="The application.")
    sinks: Items[Connector] = Field(default=(), description="Connectors that take data out of Kafka.")

    @model_validator(mode="after")
    def _makes_sense(self) -> Streaming:
        if not (self.topics or self.sources or self.app or self.sinks):
            raise ValueError("there is nothing in it; add topics, sources, app or sinks")
        if twice := _twice(topic.name for topic in self.topics):
            raise ValueError(f"topics: {twice!r} stands twice; keep one of them")
        if twice := _twice(connector.name for connector in (*self.sources, *self.sinks)):
            where = "sinks" if twice in {sink.name for sink in self.sinks} else "sources"
            raise ValueError(f"{where}: two connectors are called {twice!r}; give one another name")
        if self.app and not (self.app.image or self.defaults.image):
            raise ValueError("app: no image is named; add image to app or to defaults")
        if self.delete_topics and self.state != "absent":
            raise ValueError(f"delete_topics: is for state absent, not {self.state}; drop it until then")
        return self


def _twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
