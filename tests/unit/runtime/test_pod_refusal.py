"""What a real Kubernetes 1.34 answered when it refused pods, recorded in pods/refusals.json, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_mlplatform.runtime.pod_failure import refusal

ANSWERS = Path(__file__).parent / "pods" / "refusals.json"
REFUSALS: dict[str, dict[str, Any]] = json.loads(ANSWERS.read_text("utf-8"))

REFUSED = {
    "rbac": ("NotAllowed", True, "give that account the role"),
    "unauthorized": ("Unavailable", False, "credentials are not valid"),
    "no-namespace": ("NoNamespace", True, "create the namespace"),
    "namespace-terminating": ("NoNamespace", True, "it is being terminated"),
    "invalid-name": ("Invalid", True, 'Pod "Not_Valid" is invalid'),
    "invalid-quantity": ("Invalid", True, "quantities must match"),
    "request-over-limit": ("Invalid", True, "must be less than or equal to memory limit of 1Gi"),
    "bad-json": ("Invalid", True, "cannot be handled as a Pod"),
    "policy": ("Refused", True, "every pod needs the label team"),
    "unknown-service-account": ("Refused", True, "create the service account, or correct service_account"),
    "unknown-priority": ("Refused", True, "no PriorityClass with name nobody was found"),
    "pod-security": ("Refused", True, "Pod Security level; change what the message lists"),
    "limit-range": ("Refused", True, "the namespace has a LimitRange; change resources"),
    "quota-no-limit": ("Refused", True, "the namespace has a quota on it; set resources"),
    "quota-never-fits": ("QuotaExceeded", True, "ask for less, or raise the quota"),
    "quota-full": ("QuotaExceeded", False, "it fits when other pods of the namespace have ended"),
    "already-exists": ("Unavailable", False, "already exists"),
    "webhook-down": ("Unavailable", False, "failed calling webhook"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_why_a_pod_was_refused(name: str) -> None:
    reason, lasting, told = REFUSED[name]
    answer = REFUSALS[name]
    forms: list[Any] = [answer["body"], json.dumps(answer["body"]), json.dumps(answer["body"]).encode()]
    for body in forms:
        found = refusal(answer["status"], body, "pod x in namespace ml")
        assert (found.reason, found.lasting) == (reason, lasting)
        assert found.message.startswith("pod x in namespace ml was ")
        assert told in found.message


@pytest.mark.parametrize(
    ("status", "body"), [(0, "connection refused"), (429, "busy"), (503, b"\xff"), (504, "[]"), (500, "")]
)
def test_an_api_server_that_is_away_is_tried_again(status: int, body: str | bytes) -> None:
    found = refusal(status, body, "pod x")
    assert (found.reason, found.lasting) == ("Unavailable", False)


@pytest.mark.parametrize(
    ("requested", "limited", "never"),
    [
        ("requests.cpu=500m", "requests.cpu=1", False),
        ("requests.cpu=1500m", "requests.cpu=1", True),
        ("limits.memory=2Gi,pods=1", "limits.memory=2G,pods=10", True),
        ("limits.memory=1M,pods=1", "limits.memory=1Mi,pods=1", False),
        ("count/x=odd", "count/x=1", False),
    ],
)
def test_a_quota_that_the_pod_alone_exceeds(requested: str, limited: str, never: bool) -> None:
    message = f'pods "x" is forbidden: exceeded quota: q, requested: {requested}, used: {requested}, limited: {limited}'
    assert refusal(403, {"message": message}, "pod x").lasting is never
