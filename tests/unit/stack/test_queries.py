"""Rules and dashboards ask only for what the parts of the stack really tell."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest

from airflow_mlplatform.metrics import METRICS
from tests.parts import require
from tests.unit.stack.queries import NAMES, ROOT, Query, dashboards, known_names, queries, rules

KNOWN = known_names()
OURS = {metric.prometheus: set(metric.labels) for metric in METRICS}
# What Prometheus itself adds to what it scrapes.
OF_TARGETS = {"instance", "job", "pod", "namespace", "service", "container", "endpoint"}
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
AIRFLOW_VALUES = (ROOT / "helm-values" / "airflow" / "values.yaml.gotmpl").read_text("utf-8")


def selectors(expr: str) -> list[Any]:
    """Return the vector selectors of a query."""
    require(importlib.util.find_spec("promql_parser"), "promql-parser: rm .venv/.installed && make lint")
    import promql_parser

    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(expr), found.append)
    return [node for node in found if isinstance(node, promql_parser.VectorSelector)]


def labels(selector: Any) -> set[str]:
    """The labels that a selector asks for."""
    return {matcher.name for matcher in selector.matchers.matchers}


@pytest.mark.parametrize("query", queries(), ids=str)
def test_a_query_asks_for_what_is_there(query: Query) -> None:
    asked = selectors(query.expr)
    assert asked
    for selector in asked:
        assert selector.name in KNOWN
        assert labels(selector) <= OURS.get(selector.name, labels(selector)) | OF_TARGETS


@pytest.mark.parametrize("name", ["kafka_connect_worker_connector_failed_task_count", "airflow_mlplatform_spec"])
def test_a_name_that_nobody_has_is_noticed(name: str) -> None:
    (selector,) = selectors(f"sum(rate({name}[5m])) > 0")
    assert selector.name not in KNOWN


def test_each_list_of_names_says_where_it_is_from() -> None:
    for path in NAMES.glob("*.txt"):
        first, *rest = path.read_text("utf-8").splitlines()
        assert re.match(r"# .*\d", first), path.name
        names = [line for line in rest if line and not line.startswith("#")]
        assert names == sorted(set(names)), path.name


@pytest.mark.parametrize("alert", [rule for rule in rules() if "alert" in rule], ids=lambda rule: rule["alert"])
def test_an_alert_has_a_runbook(alert: dict[str, Any]) -> None:
    file, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert file == "docs/operations.md"
    assert anchor == alert["alert"].lower()
    assert f"\n### {alert['alert']}\n" in OPERATIONS
    assert alert["labels"]["severity"] in ("critical", "warning", "info")


def test_every_runbook_is_of_an_alert() -> None:
    section = OPERATIONS.partition("\n## What each alert means\n")[2].partition("\n## ")[0]
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert set(re.findall(r"^### (.+)$", section, re.MULTILINE)) == alerts


def test_the_link_of_a_task_leads_to_a_dashboard() -> None:
    """What ``[mlplatform] grafana_url`` names: the dashboard, and each of its variables."""
    (url,) = re.findall(r"grafana_url: (.+/d/\S+)", AIRFLOW_VALUES)
    uid, given = re.fullmatch(r".*/d/([a-z]+)\?(.*)", url).groups()  # type: ignore[union-attr]
    (board,) = [board for board in dashboards() if board["uid"] == uid]
    assert dict(re.findall(r"var-(\w+)=\{(\w+)\}", given)) == {"namespace": "namespace", "deployment": "name"}
    assert {one["name"] for one in board["variables"]} == {"namespace", "deployment"}
