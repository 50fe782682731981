"""``kind: training``: an MLflow project, run once or over a matrix, and the best model registered."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from airflow_mlplatform.specs.base import Items, Model, Text
from airflow_mlplatform.specs.common import Head, SecretRef

__all__ = ["Project", "Register", "Select", "Training"]

Value = bool | int | float | str
MAX_COMBINATIONS = 200


class Project(Model):
    """An MLflow project and how it is called."""

    uri: Text = Field(
        description="Folder beside the spec, absolute path (on Kubernetes: in the image), or git URL (…#subfolder)."
    )
    version: Text | None = Field(default=None, description="Branch, tag or commit of a git URL.")
    entry_point: Text = Field(default="main", description="Entry point of the project.")
    parameters: dict[str, Value] = Field(default={}, description="Parameters of the entry point; Jinja allowed.")
    secret: SecretRef | None = Field(
        default=None,
        description="Token (https) or private key (ssh) for a private git repository; the Secret's keys username and "
        "known_hosts count too, where they are there.",
    )


class Select(Model):
    """Which run of a matrix goes on."""

    metric: Text = Field(description="Metric that the runs log.")
    best: Literal["min", "max"] = Field(description="Whether smaller or larger is better.")


class Register(Model):
    """Where the model is registered."""

    model: Text = Field(description="Name of the registered model.")
    alias: Text = Field(default="challenger", description="Alias that moves to the new version.")


class Training(Head):
    """`mlflow run`, its tracked result, and a new version in the registry."""

    kind: Literal["training"] = Field(description="What the spec describes.")
    project: Project = Field(description="The MLflow project.")
    experiment: Text = Field(description="MLflow experiment that holds the runs; made if missing.")
    environment: Literal["image", "uv", "virtualenv", "conda"] = Field(
        default="image",
        description="Where the project's packages come from: the image (here: this Python), or an environment "
        "that MLflow makes with uv, virtualenv or conda.",
    )
    matrix: dict[str, Annotated[Items[Value], Field(min_length=1)]] = Field(
        default={}, description="Parameters with several values; one run a combination."
    )
    select: Select | None = Field(default=None, description="Which run of the matrix goes on.")
    register_: Register | None = Field(default=None, alias="register", description="Where the model is registered.")

    @model_validator(mode="after")
    def _matrix_fits(self) -> Training:
        if self.select and not self.matrix:
            raise ValueError("select: chooses among the runs of a matrix and there is none; add matrix or drop select")
        if self.matrix and self.register_ and not self.select:
            raise ValueError("register: a matrix gives several models; add select to say which one is registered")
        twice = sorted(set(self.matrix) & set(self.project.parameters))
        if twice:
            raise ValueError(f"matrix: {twice[0]!r} stands in project.parameters too; keep one of them")
        combinations = 1
        for values in self.matrix.values():
            combinations *= len(values)
        if combinations > MAX_COMBINATIONS:
            raise ValueError(f"matrix: {combinations} combinations, at most {MAX_COMBINATIONS}; thin it out")
        return self
