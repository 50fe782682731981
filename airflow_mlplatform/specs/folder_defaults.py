"""``defaults.yaml``: what the specs beside and below it share."""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import Field

from airflow_mlplatform.specs.base import Duration, Items, Model, Text
from airflow_mlplatform.specs.common import Defaults, Retries

__all__ = ["FolderDefaults"]


class FolderDefaults(Model):
    """Values for every spec in this folder and below, unless a nearer file or the spec itself says otherwise."""

    apiVersion: Literal["mlplatform/v1"] = Field(default="mlplatform/v1", description="Version of the spec language.")
    owner: Text | None = Field(default=None, description="Who answers for the specs.")
    tags: Items[Text] | None = Field(default=None, description="Tags; a spec's own list replaces them.")
    start: datetime.date | None = Field(default=None, description="First day that is scheduled.")
    catchup: bool | None = Field(default=None, description="Whether to run missed intervals.")
    retries: Retries | None = Field(default=None, description="How failed tasks are tried again.")
    timeout: Duration | None = Field(default=None, description="Longest time a task may take.")
    defaults: Defaults | None = Field(default=None, description="Where and with what each task runs.")
