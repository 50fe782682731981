"""Every alert fires when it should and is silent when it should be; promtool plays the series."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.parts import program
from tests.unit.stack.queries import queries

RULES = Path(__file__).parents[3] / "helm-values" / "platform" / "files" / "rules"
PLAYS = Path(__file__).parent / "rules"
NAMES = sorted(path.name for path in RULES.glob("*.yaml"))
OPERATIONS = (Path(__file__).parents[3] / "docs" / "operations.md").read_text("utf-8")


@pytest.fixture(scope="module")
def promtool() -> str:
    return program("promtool", "install Prometheus (Debian: apt install prometheus)")


@pytest.mark.parametrize("name", NAMES)
def test_alerts_fire_and_are_silent(promtool: str, name: str, tmp_path: Path) -> None:
    play = tmp_path / name
    play.write_text((PLAYS / name).read_text("utf-8").replace("RULES", str(RULES / name)), "utf-8")
    done = subprocess.run([promtool, "test", "rules", str(play)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_understands_all_queries(promtool: str, tmp_path: Path) -> None:
    asked = [{"record": f"query:{number}", "expr": query.expr} for number, query in enumerate(queries())]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": asked}]}), "utf-8")
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_is_played_both_ways_and_has_a_runbook(name: str) -> None:
    rules = yaml.safe_load((RULES / name).read_text("utf-8"))
    plays = yaml.safe_load((PLAYS / name).read_text("utf-8"))["tests"]
    for alert in (rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule):
        outcomes = {
            bool(test["exp_alerts"]) for play in plays for test in play["alert_rule_test"] if test["alertname"] == alert
        }
        assert outcomes == {True, False}, alert
        assert f"## {alert}" in OPERATIONS
