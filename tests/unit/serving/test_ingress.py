"""Whether requests can be split, told by what the operator made; recorded with and without Istio."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlplatform.serving.ingress import ISTIO, cannot_split, uses_istio, wrong_routes
from tests.unit.serving.recorded_seldon import moments, virtual_service

WITHOUT = next(one.sdep for one in moments() if one.at.startswith("15:56:52"))
WITH = next(one.sdep for one in moments() if one.at.startswith("16:05:42.145"))
SHADOW = next(one.sdep for one in moments() if one.at.startswith("16:06:44.360"))
ALONE = next(one.sdep for one in moments() if one.at.startswith("16:07:42.383"))


def test_the_condition_is_there_without_istio_too_and_only_its_reason_tells() -> None:
    assert not uses_istio(WITHOUT)
    assert uses_istio(WITH)


@pytest.mark.parametrize("groups", [{ISTIO}, set()])
def test_an_operator_that_made_no_routes_cannot_split_whatever_else_is_there(groups: set[str]) -> None:
    why = cannot_split(WITHOUT, groups)
    assert "the Seldon operator programs no ingress here" in why
    assert "istio.enabled=true" in why
    assert ("install Istio" in why) == (not groups)
    assert "all-at-once" in why


def test_an_operator_that_made_routes_can_split() -> None:
    assert cannot_split(WITH, {ISTIO}) == ""


def test_ambassador_can_split() -> None:
    conditions = [
        {"type": "istioVirtualServicesReady", "status": "True", "reason": "No VirtualServices defined"},
        {"type": "AmbassadorMappingsReady", "status": "True", "reason": "All Ambassador Mappings created"},
    ]
    assert cannot_split({**WITHOUT, "status": {"conditions": conditions}}, set()) == ""


@pytest.mark.parametrize("sdep", [None, moments()[0].sdep])
def test_before_anything_runs_the_api_groups_tell(sdep: dict[str, Any] | None) -> None:
    assert cannot_split(sdep, {ISTIO}) == ""
    assert "there is no ingress that Seldon programs" in cannot_split(sdep, {"apps"})


def test_routes_as_wished() -> None:
    assert wrong_routes(WITH, virtual_service("istio-canary")) == ""
    assert wrong_routes(SHADOW, virtual_service("istio-shadow")) == ""


def test_routes_of_another_step() -> None:
    assert "75 % iris-main, 25 % iris-challenger" in wrong_routes(WITH, virtual_service("istio-4060"))


def test_a_mirror_that_copies_another_share() -> None:
    other = virtual_service("istio-shadow")
    other["spec"]["http"][0]["mirrorPercentage"]["value"] = 100
    assert "100 % copy to iris-challenger instead of" in wrong_routes(SHADOW, other)


def test_a_predictor_that_has_gone_must_have_left_the_routes() -> None:
    assert wrong_routes(ALONE, virtual_service("istio-4060"))


def test_one_route_alone_gets_all_whatever_its_weight() -> None:
    alone = virtual_service("istio-4060")
    for route in alone["spec"]["http"]:
        route["route"] = [{**route["route"][0], "weight": 0}]
    assert wrong_routes(ALONE, alone) == ""


def test_routes_that_are_not_there_yet() -> None:
    assert wrong_routes(WITH, None) == "its VirtualService is not there yet"
