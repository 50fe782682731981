"""Grafana's dashboards, as the chart makes them of our short files."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest

from tests.services.stack.rendering import render
from tests.unit.stack.queries import dashboards

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@pytest.fixture(scope="module")
def boards() -> dict[str, Any]:
    """Dashboards by uid."""
    maps = [found for found in render("platform", "small") if found["kind"] == "ConfigMap"]
    labelled = [found for found in maps if found["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]
    texts = [text for found in labelled for name, text in found["data"].items() if name.endswith(".json")]
    return {board["uid"]: board for board in map(json.loads, texts)}


def test_each_file_becomes_a_dashboard(boards: dict[str, Any]) -> None:
    assert set(boards) == {board["uid"] for board in dashboards()} == {"platform", "pipeline", "connectors", "models"}
    for written in dashboards():
        titles = [panel["title"] for row in written["rows"] for panel in row["panels"]]
        made = boards[written["uid"]]
        assert [panel["title"] for panel in made["panels"] if panel["type"] != "row"] == titles
        asked = [one["expr"] for row in written["rows"] for panel in row["panels"] for one in panel["queries"]]
        assert [one["expr"] for panel in made["panels"] for one in panel.get("targets", ())] == asked


def test_no_dashboard_names_a_source_of_one_installation(boards: dict[str, Any]) -> None:
    for board in boards.values():
        first, *others = board["templating"]["list"]
        assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
        assert all(variable["datasource"] == SOURCE for variable in others)
        panels = [panel for panel in board["panels"] if panel["type"] != "row"]
        assert all(panel["datasource"] == SOURCE for panel in panels)
        assert all(target["datasource"] == SOURCE for panel in panels for target in panel["targets"])


def test_variables_that_are_used_are_there(boards: dict[str, Any]) -> None:
    for board in boards.values():
        names = {f"${variable['name']}" for variable in board["templating"]["list"]}
        words = {
            word for panel in board["panels"] for one in panel.get("targets", ()) for word in one["expr"].split('"')
        }
        assert {word for word in words if word.startswith("$")} <= names


def test_panels_have_their_own_place_and_number(boards: dict[str, Any]) -> None:
    for board in boards.values():
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        places = [panel["gridPos"] for panel in board["panels"]]
        assert all(place["x"] + place["w"] <= 24 for place in places)
        assert not [pair for pair in combinations(places, 2) if _overlap(*pair)]


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not (beside or below)
