"""The model that is to be served: which version it is, and where its files lie."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from airflow_mlplatform.clients.mlflow_operations import get_logged_model, get_run
from airflow_mlplatform.clients.mlflow_registry import (
    get_model_version,
    get_model_version_folder,
    get_version_by_alias,
)
from airflow_mlplatform.exceptions import ConfigurationError, NotFound, ServiceRefused

if TYPE_CHECKING:
    from airflow_mlplatform.clients.http import Operation
    from airflow_mlplatform.clients.mlflow import ModelVersion

__all__ = ["ServableModel", "find_model"]

VERSION = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>\d+)")
ALIAS = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)")
LOGGED = re.compile(r"models:/(?P<id>m-[^/@]+)")
OF_RUN = re.compile(r"runs:/(?P<run>[^/]+)/(?P<path>.+)")
# Where a pod cannot read, and why.
UNREADABLE = {
    "mlflow-artifacts": "only the MLflow server can read there; let it keep artifacts where pods read too: "
    "mlflow server --no-serve-artifacts --default-artifact-root s3://…, then train again",
    "file": "that is a folder of one machine; let MLflow keep artifacts in a store that pods reach, such as s3://…",
    "dbfs": "storage initializers do not know Databricks' file system; keep models in s3://…, gs://… or Azure storage",
}


class ServableModel(BaseModel):
    """A model as a storage initializer can fetch it.

    :param name: the registered model; empty if it is not registered.
    :param version: its version, as text; empty if it is not registered.
    :param run_id: the MLflow run that made it; empty if unknown.
    :param uri: the folder with its ``MLmodel``, in a store that pods reach: ``s3://…``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    version: str = ""
    run_id: str = ""
    uri: str = Field(min_length=1)

    def __str__(self) -> str:
        return f"{self.name} version {self.version}" if self.name else f"the model in {self.uri}"


def find_model(value: Any) -> Operation[ServableModel]:
    """Ask MLflow which model is meant, and where its files lie.

    :param value: the verdict of the promotion gate; a mapping with ``name`` and ``version`` or ``alias``;
        ``models:/wine/3``, ``models:/wine@champion``, ``models:/m-…`` or ``runs:/…/model``; or the URI of its folder.
    :raises ConfigurationError: if it names no model, or one that lies where no pod can read.
    :raises NotFound: if MLflow does not know it.
    """
    wanted = value.get("candidate", value) if isinstance(value, Mapping) else value
    if isinstance(wanted, Mapping):
        return (yield from _registered(wanted, value))
    text = wanted.strip() if isinstance(wanted, str) else ""
    if found := VERSION.fullmatch(text) or ALIAS.fullmatch(text):
        return (yield from _registered(found.groupdict(), value))
    if found := LOGGED.fullmatch(text):
        return (yield from _logged(found["id"]))
    if text.startswith("runs:/"):
        uri, run_id = yield from _of_run(text)
        return ServableModel(run_id=run_id, uri=_readable(uri))
    if not text or text.startswith("models:/"):
        raise _names_nothing(value)
    return ServableModel(uri=_readable(text))


def _registered(wanted: Mapping[str, Any], value: Any) -> Operation[ServableModel]:
    name = str(wanted.get("name") or "")
    if name and str(wanted.get("version", "")).isdigit():
        version: ModelVersion | None = yield from get_model_version(name, int(wanted["version"]))
    elif name and wanted.get("alias"):
        version = yield from get_version_by_alias(name, str(wanted["alias"]))
    else:
        raise _names_nothing(value)
    if version is None:
        raise NotFound(f"no version of model {name!r} bears the alias {wanted['alias']!r}; set it in MLflow")
    if version.status != "READY":
        why = version.status_message or "no reason given"
        raise ServiceRefused(f"{name} version {version.version} is {version.status} ({why}); register it again")
    uri = yield from get_model_version_folder(name, version.version)
    # Versions that were registered without MLflow's own client.
    if uri.startswith("runs:/"):
        uri, _ = yield from _of_run(uri)
    elif logged := LOGGED.fullmatch(uri):
        uri = (yield from get_logged_model(logged["id"])).artifact_uri
    return ServableModel(name=name, version=str(version.version), run_id=version.run_id, uri=_readable(uri))


def _logged(model_id: str) -> Operation[ServableModel]:
    model = yield from get_logged_model(model_id)
    if not model.ready:
        raise ServiceRefused(
            f"the logged model {model_id} is not complete: its upload goes on, or was cut; log it again"
        )
    return ServableModel(run_id=model.run_id, uri=_readable(model.artifact_uri))


def _of_run(uri: str) -> Operation[tuple[str, str]]:
    """Return the folder that ``runs:/…`` means, and the run."""
    found = OF_RUN.fullmatch(uri)
    if found is None:
        raise ConfigurationError(f"{uri!r} names a run but no model of it; write runs:/<run id>/<name of the model>")
    run = yield from get_run(found["run"])
    # MLflow 3 keeps a model beside the run's artifacts, under an id, and only its name is in the URI.
    for model_id in reversed(run.model_ids):
        model = yield from get_logged_model(model_id)
        if model.name == found["path"]:
            return model.artifact_uri, run.run_id
    return f"{run.artifact_uri}/{found['path']}", run.run_id


def _readable(uri: str) -> str:
    scheme = uri.partition(":")[0] if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", uri) else "file"
    if why := UNREADABLE.get(scheme):
        raise ConfigurationError(f"the model lies in {uri}, and its servers could not fetch it: {why}")
    return uri.rstrip("/")


def _names_nothing(value: Any) -> ConfigurationError:
    return ConfigurationError(
        f"model is {value!r:.200}, which names no model; give the output of the promotion gate, "
        "{'name': 'wine', 'version': 3}, {'name': 'wine', 'alias': 'challenger'}, models:/wine/3, "
        "models:/wine@champion, runs:/<run id>/model or the URI of its folder (s3://…)"
    )
