"""The model registry's part of MLflow's REST API, each call once. The clients in ``mlflow.py`` drive these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlplatform.clients.mlflow_entities import ModelVersion, RegisteredModel
from airflow_mlplatform.clients.mlflow_operations import PAGE, AlreadyExists, _get, _send, _tags, quoted
from airflow_mlplatform.exceptions import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_mlplatform.clients.http import Operation

LARGEST_PAGE = 1000
"""Most registered models that MLflow gives in one answer."""


def get_or_create_registered_model(name: str) -> Operation[None]:
    """See that a registered model of this name exists; many may ask at once."""
    try:
        yield from _get("/registered-models/get", name=name)
    except NotFound:
        try:
            yield from _send("POST", "/registered-models/create", name=name)
        except AlreadyExists:
            return


def create_model_version(
    name: str, source: str, run_id: str, tags: Mapping[str, str] | None = None, model_id: str | None = None
) -> Operation[ModelVersion]:
    """Make a new version of a registered model.

    :param source: where the model lies: ``models:/m-…`` of a logged model.
    :param model_id: id of the logged model; told from ``source`` if left out.
    """
    if model_id is None and source.startswith("models:/m-"):
        model_id = source.removeprefix("models:/")
    body: dict[str, Any] = {"name": name, "source": source, "run_id": run_id, "tags": _tags(tags)}
    answer = yield from _send("POST", "/model-versions/create", **body, **({"model_id": model_id} if model_id else {}))
    return ModelVersion.parse(answer["model_version"])


def get_model_version(name: str, version: int) -> Operation[ModelVersion]:
    """Return a version with its aliases.

    :raises NotFound: if there is none.
    """
    answer = yield from _get("/model-versions/get", name=name, version=str(version))
    return ModelVersion.parse(answer["model_version"])


def get_model_version_folder(name: str, version: int) -> Operation[str]:
    """Return where the files of a version lie (``s3://…``): of a version made from a logged model, that model's folder.

    :raises NotFound: if there is no such version.
    """
    answer = yield from _get("/model-versions/get-download-uri", name=name, version=str(version))
    return str(answer["artifact_uri"])


def get_registered_model(name: str) -> Operation[RegisteredModel]:
    """Return a registered model with its aliases and tags.

    :raises NotFound: if there is none.
    """
    answer = yield from _get("/registered-models/get", name=name)
    return RegisteredModel.parse(answer["registered_model"])


def list_registered_models() -> Operation[dict[str, RegisteredModel]]:
    """Return all registered models by name; one request for each :data:`LARGEST_PAGE` of them.

    With more than one page, a model that others make or delete meanwhile may push another one out of sight.
    """
    found: dict[str, RegisteredModel] = {}
    params = {"max_results": str(LARGEST_PAGE)}
    while True:
        answer = yield from _get("/registered-models/search", **params)
        for item in answer.get("registered_models", ()):
            found[item["name"]] = RegisteredModel.parse(item)
        if not answer.get("next_page_token"):
            return found
        params["page_token"] = answer["next_page_token"]


def get_version_by_alias(name: str, alias: str) -> Operation[ModelVersion | None]:
    """Return the version that bears an alias; ``None`` if the model or the alias does not exist."""
    # MLflow's own call answers a missing alias like a malformed request, which only its English tells apart.
    try:
        number = (yield from get_registered_model(name)).aliases.get(alias)
        return (yield from get_model_version(name, number)) if number else None
    except NotFound:
        return None


def set_registered_model_tag(name: str, key: str, value: str) -> Operation[None]:
    """Set a tag of a registered model."""
    yield from _send("POST", "/registered-models/set-tag", name=name, key=key, value=value)


def set_alias(name: str, alias: str, version: int) -> Operation[None]:
    """Give an alias to a version; it leaves the version that had it."""
    yield from _send("POST", "/registered-models/alias", name=name, alias=alias, version=str(version))


def delete_alias(name: str, alias: str) -> Operation[None]:
    """Take an alias away; nothing happens if there is none."""
    yield from _send("DELETE", "/registered-models/alias", name=name, alias=alias)


def search_model_versions(name: str, run_id: str | None = None) -> Operation[tuple[ModelVersion, ...]]:
    """Return all versions of a model (of one run), newest first; aliases are not filled in."""
    condition = f"name = {quoted(name)}" + (f" and run_id = {quoted(run_id)}" if run_id else "")
    found: list[ModelVersion] = []
    params = {"filter": condition, "max_results": str(PAGE)}
    while True:
        answer = yield from _get("/model-versions/search", **params)
        found += [ModelVersion.parse(item) for item in answer.get("model_versions", ())]
        if not answer.get("next_page_token"):
            return tuple(sorted(found, key=lambda item: item.version, reverse=True))
        params["page_token"] = answer["next_page_token"]


def set_model_version_tag(name: str, version: int, key: str, value: str) -> Operation[None]:
    """Set a tag of a version."""
    yield from _send("POST", "/model-versions/set-tag", name=name, version=str(version), key=key, value=value)


def delete_model_version_tags(name: str, version: int, keys: Iterable[str]) -> Operation[None]:
    """Remove tags of a version."""
    for key in keys:
        yield from _send("DELETE", "/model-versions/delete-tag", name=name, version=str(version), key=key)


def move_to_stage(name: str, version: int, stage: str) -> Operation[None]:
    """Put a version into a stage; those that were in it are archived."""
    yield from _send(
        "POST", "/model-versions/transition-stage", name=name, version=str(version), stage=stage,
        archive_existing_versions=True,
    )  # fmt: skip
