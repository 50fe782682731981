"""The client for SeldonDeployments against answers as Kubernetes 1.34 and the operator 1.17.1 give them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_mlplatform.clients.field_owners import Owned
from airflow_mlplatform.clients.kubernetes_api import ObjectRefused
from airflow_mlplatform.clients.seldon import ChangedMeanwhile, Conflict, SeldonDeployments
from airflow_mlplatform.exceptions import ServiceUnavailable

WINE = {"metadata": {"name": "wine"}, "spec": {}}
CONFLICT = {
    "reason": "Conflict",
    "details": {
        "causes": [
            {
                "reason": "FieldManagerConflict",
                "message": 'conflict with "kubectl-edit" using machinelearning.seldon.io/v1',
                "field": ".spec.predictors",
            }
        ]
    },
}


@dataclass
class Response:
    """An answer of aiohttp, as much as the client looks at."""

    status: int
    body: dict[str, Any]

    async def read(self) -> bytes:
        return json.dumps(self.body).encode()

    async def __aenter__(self) -> Response:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


@dataclass
class FakeApi:
    """Answers one request after the other, and keeps what was asked."""

    answers: list[Response]
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def call_api(self, path: str, method: str, **options: Any) -> Response:
        self.asked.append({"path": path, "method": method, **options})
        return self.answers.pop(0)


def answering(*answers: tuple[int, dict[str, Any]]) -> tuple[SeldonDeployments, FakeApi]:
    api = FakeApi([Response(*one) for one in answers])
    return SeldonDeployments(api, "models"), api  # type: ignore[arg-type]


def test_apply_has_its_own_manager_and_forces_nothing() -> None:
    seldon, api = answering((200, WINE))
    asyncio.run(seldon.apply(WINE, dry_run=True))
    (asked,) = api.asked
    assert asked["query_params"] == [("fieldManager", "airflow-mlplatform"), ("dryRun", "All")]
    assert (asked["method"], asked["header_params"]["Content-Type"]) == ("PATCH", "application/apply-patch+yaml")
    assert asked["path"].endswith("/namespaces/{namespace}/seldondeployments/wine")


def test_a_write_in_between_is_told_from_a_conflict() -> None:
    outdated = {"reason": "Conflict", "message": "the object has been modified"}
    seldon, _ = answering((409, outdated))
    with pytest.raises(ChangedMeanwhile, match="wine was changed by somebody in the meantime"):
        asyncio.run(seldon.apply(WINE))


def test_a_conflict_tells_who_manages_what_and_how_it_is_handed_over() -> None:
    entry = {"manager": "kubectl-edit", "fieldsV1": {"f:spec": {"f:predictors": {}}}}
    seldon, _ = answering((409, CONFLICT), (200, {"metadata": {"managedFields": [entry]}}))
    with pytest.raises(Conflict) as caught:
        asyncio.run(seldon.apply(WINE))
    assert caught.value.owned == (Owned("spec.predictors", "kubectl-edit"),)
    message = str(caught.value)
    assert "kubectl-edit manages spec.predictors" in message
    assert "kubectl -n models patch sdep wine --type=json" in message
    assert "/metadata/managedFields/0/fieldsV1/f:spec/f:predictors" in message


def test_a_manifest_that_no_schema_allows_is_no_outage() -> None:
    why = "failed to create typed patch object (…): .spec.predictors[0].trafic: field not declared in schema"
    seldon, _ = answering((500, {"message": why}))
    with pytest.raises(ObjectRefused, match=r"\.trafic: field not declared in schema"):
        asyncio.run(seldon.apply(WINE))


def test_an_operator_that_is_down_is_an_outage() -> None:
    why = 'Internal error occurred: failed calling webhook "v1.vseldondeployment.kb.io": connection refused'
    seldon, _ = answering((500, {"message": why}))
    with pytest.raises(ServiceUnavailable, match="failed calling webhook"):
        asyncio.run(seldon.apply(WINE))


def test_what_the_operators_check_refuses_is_refused() -> None:
    why = 'spec: Invalid value: "a": Traffic must sum to 100 for multiple predictors'
    seldon, _ = answering((422, {"reason": "Invalid", "message": why}))
    with pytest.raises(ObjectRefused, match="Traffic must sum to 100") as caught:
        asyncio.run(seldon.apply(WINE))
    assert caught.value.status == 422


@pytest.mark.parametrize("status", [200, 404, 409])
def test_only_the_very_resource_is_removed(status: int) -> None:
    seldon, api = answering((status, {}))
    asyncio.run(seldon.delete("wine", "u1"))
    assert api.asked[0]["body"] == {"propagationPolicy": "Foreground", "preconditions": {"uid": "u1"}}


def test_what_is_not_there() -> None:
    seldon, _ = answering((404, {}))
    assert asyncio.run(seldon.get("wine")) is None


def test_the_api_groups() -> None:
    seldon, _ = answering((200, {"groups": [{"name": "apps"}, {"name": "networking.istio.io"}]}))
    assert asyncio.run(seldon.groups()) == {"apps", "networking.istio.io"}
