"""Every PromQL query of the stack, and the names of metrics that its parts really have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from airflow_mlplatform.metrics import METRICS

ROOT = Path(__file__).parents[3]
FILES = ROOT / "helm-values" / "platform" / "files"
NAMES = ROOT / "tests" / "services" / "stack" / "metric_names"


@dataclass(frozen=True)
class Query:
    """One query.

    :param place: where it stands.
    """

    place: str
    expr: str

    def __str__(self) -> str:
        return self.place


def rules() -> list[dict[str, Any]]:
    """All rules."""
    groups = [group for path in sorted((FILES / "rules").glob("*.yaml")) for group in _read(path)["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def dashboards() -> list[dict[str, Any]]:
    """All dashboards, as their files have them."""
    return [_read(path) for path in sorted((FILES / "dashboards").glob("*.yaml"))]


def queries() -> list[Query]:
    """All queries, of rules and of dashboards."""
    of_rules = [Query(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]
    panels = [(board, panel) for board in dashboards() for row in board["rows"] for panel in row["panels"]]
    of_panels = [
        Query(f"{board['uid']}: {panel['title']}", one["expr"]) for board, panel in panels for one in panel["queries"]
    ]
    of_variables = [
        Query(f"{board['uid']}: ${one['name']}", one["of"])
        for board in dashboards()
        for one in board.get("variables", ())
    ]
    return of_rules + of_panels + of_variables


def known_names() -> set[str]:
    """What parts expose, what this package sends, and what rules record."""
    lines = [line for path in NAMES.glob("*.txt") for line in path.read_text("utf-8").splitlines()]
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    return {line for line in lines if line and line[0] != "#"} | {metric.prometheus for metric in METRICS} | recorded


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))
