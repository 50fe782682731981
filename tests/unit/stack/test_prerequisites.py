"""What is wrong with a cluster is told before anything is installed."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

GOOD: dict[str, Any] = {"version": (1, 34), "cpus": 4.0, "memory": 16.0, "nodes": 1, "default_storage": "standard"}


def test_a_good_cluster_has_no_problems(prerequisites: ModuleType) -> None:
    assert list(prerequisites.problems(prerequisites.Found(**GOOD), "small")) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": (1, 29)}, "Kubernetes is 1.29; the stack needs 1.30"),
        ({"memory": 4.0}, "4.0 GiB; profile small needs 2 and 8 GiB"),
        ({"cpus": 1.0}, "1.0 CPUs"),
        ({"default_storage": ""}, "no default storage class"),
        ({"default_ingress": "nginx"}, "nginx is the default ingress class"),
        ({"nodes": 0}, "0 nodes take pods"),
    ],
)
def test_each_problem_is_told(prerequisites: ModuleType, change: dict[str, Any], told: str) -> None:
    (problem,) = prerequisites.problems(prerequisites.Found(**GOOD | change), "small")
    assert told in problem


def test_production_wants_more(prerequisites: ModuleType) -> None:
    assert len(list(prerequisites.problems(prerequisites.Found(**GOOD), "production"))) == 2


@pytest.mark.parametrize(("lacking", "told"), [("measures", "no metrics-server"), ("certifies", "no cert-manager")])
def test_production_needs_more_parts(prerequisites: ModuleType, lacking: str, told: str) -> None:
    enough = GOOD | {"cpus": 16.0, "memory": 64.0, "nodes": 3, lacking: False}
    (problem,) = prerequisites.problems(prerequisites.Found(**enough), "production")
    assert told in problem


@pytest.mark.parametrize(
    ("quantity", "amount"), [("2", 2.0), ("1500m", 1.5), ("16Gi", 16 * 2**30), ("24548Ki", 24548 * 1024)]
)
def test_quantities(prerequisites: ModuleType, quantity: str, amount: float) -> None:
    assert prerequisites._amount(quantity) == amount
