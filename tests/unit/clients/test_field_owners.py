"""Whose fields a refused apply would have changed, and the patch that gives them up; answers of Kubernetes 1.34."""

from __future__ import annotations

from typing import Any

from airflow_mlplatform.clients.field_owners import Owned, conflicts, release

OURS = {"f:metadata": {"f:annotations": {"f:mlplatform.airflow/model": {}}}, "f:spec": {"f:protocol": {}}}
THEIRS = {"f:metadata": {"f:labels": {"f:team": {}}}, "f:spec": {"f:predictors": {}}}


def resource(*entries: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    managed = [{"manager": manager, "operation": "Update", "fieldsV1": fields} for manager, fields in entries]
    return {"apiVersion": "machinelearning.seldon.io/v1", "metadata": {"managedFields": managed}}


def test_a_conflict_names_field_and_manager() -> None:
    cause = {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "kubectl-edit" using machinelearning.seldon.io/v1',
        "field": ".spec.predictors",
    }
    assert conflicts({"reason": "Conflict", "details": {"causes": [cause]}}) == [
        Owned("spec.predictors", "kubectl-edit")
    ]


def test_a_version_that_is_outdated_is_no_conflict_of_fields() -> None:
    assert conflicts({"reason": "Conflict", "details": {"name": "wine"}}) == []


def test_only_that_field_is_given_up() -> None:
    live = resource(("airflow-mlplatform", OURS), ("kubectl-edit", THEIRS))
    assert release(live, [Owned("spec.predictors", "kubectl-edit")]) == [
        {"op": "test", "path": "/metadata/managedFields/1/manager", "value": "kubectl-edit"},
        {"op": "remove", "path": "/metadata/managedFields/1/fieldsV1/f:spec/f:predictors"},
    ]


def test_names_with_dots_and_slashes_are_found() -> None:
    live = resource(("someone", {"f:metadata": {"f:annotations": {"f:mlplatform.airflow/model": {}}}}))
    (_, step) = release(live, [Owned("metadata.annotations.mlplatform.airflow/model", "someone")])
    assert step["path"] == "/metadata/managedFields/0/fieldsV1/f:metadata/f:annotations/f:mlplatform.airflow~1model"


def test_a_resource_that_nobody_is_noted_for_gets_an_entry() -> None:
    (step,) = release(resource(), [Owned("spec.predictors", "before-first-apply")])
    assert (step["op"], step["path"]) == ("add", "/metadata/managedFields")
    assert step["value"][0]["manager"] == "nobody"
