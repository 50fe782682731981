"""Values fit the charts that they are for, and the charts of others keep to our rules: for charts that CHARTS has."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.services.stack.record import RECORDED, RECORDED_PROFILES, record
from tests.services.stack.rendering import (
    PROFILES,
    RELEASES,
    VALUES,
    chart_folder,
    helm,
    installed,
    laid,
    render,
    values,
    whole_chart_folder,
)

OURS = ("airflow", "mlflow", "models", "kafka", "databases", "minio")
OTHERS = [name for name, release in RELEASES.items() if not release["chart"].startswith("./")]
WITH_SCHEMA = ("istio-gateway", "cloudnative-pg", "database", "mlflow", "airflow")
# Keys whose content is the user's own: a chart's values name none, or examples.
FREE = re.compile(
    r"^(config|meshConfig|labels|extraArgs|extraEnvVars)\.|(^|\.)resources\.|SecurityContext\.|[aA]nnotations|Constraints"
)
# Keys that do nothing in a chart that is older than the one installed; its schema takes them.
NEW = {"airflow": ("enableServiceLinks",)}
HARMLESS = {
    # Says only where the real one is: mlflow-flask, made by our chart.
    "mlflow-flask-server-secret-key": {"MLFLOW_FLASK_SERVER_SECRET_KEY"},
    # Of a webhook that only the API server asks; made anew with its certificate in each rendering.
    "seldon-webhook-server-cert": {"tls.key"},
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("release", OTHERS)
def test_values_use_keys_that_the_chart_has(release: str, profile: str) -> None:
    folder = chart_folder(release)
    known = yaml.safe_load((folder / "values.yaml").read_text("utf-8"))
    known = known.get("_internal_defaults_do_not_set", known) | dict.fromkeys(_parts(folder))
    unknown = list(_unknown(values(release, profile), known))
    assert [key for key in unknown if not FREE.search(key) and key not in NEW.get(release, ())] == []


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("release", WITH_SCHEMA)
def test_values_pass_the_schema_of_the_chart(release: str, profile: str) -> None:
    """That of another version of the chart, too: where it is older, a mirror that lags behind can install the stack."""
    folder = chart_folder(release)
    schema = json.loads((folder / "values.schema.json").read_text("utf-8"))
    defaults = yaml.safe_load((folder / "values.yaml").read_text("utf-8"))
    defaults = defaults.get("_internal_defaults_do_not_set", defaults)
    errors = jsonschema.Draft7Validator(schema).iter_errors(_without_nulls(laid(defaults, values(release, profile))))
    assert [f"{'.'.join(map(str, error.path))}: {error.message}" for error in errors] == []


def _without_nulls(value: Any) -> Any:
    """As Helm hands values to a schema."""
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(item) for key, item in value.items() if item is not None}


def _parts(folder: Path) -> list[str]:
    """Charts within a chart have values of their own."""
    chart = yaml.safe_load((folder / "Chart.yaml").read_text("utf-8"))
    return [part["name"] for part in chart.get("dependencies", ())]


def _unknown(given: Any, known: Any, path: str = "") -> Iterator[str]:
    for key, value in given.items():
        if not isinstance(known, dict) or key not in known:
            yield path + key
        elif isinstance(value, dict) and known[key]:
            yield from _unknown(value, known[key], f"{path}{key}.")


@pytest.mark.parametrize(("release", "profile"), installed(RECORDED_PROFILES))
def test_what_is_recorded_is_what_is_rendered(release: str, profile: str) -> None:
    recorded = yaml.load((RECORDED / f"{profile}.yaml").read_text("utf-8"), yaml.CSafeLoader)
    assert record(release, profile) == recorded[release], (
        "python -m tests.services.stack.record writes the records anew"
    )


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("release", OTHERS)
def test_no_other_chart_opens_our_namespaces(release: str, profile: str) -> None:
    """Policies add up: one that allows more than ours makes ours worthless."""
    for found in render(release, profile):
        assert not (found["kind"] == "NetworkPolicy" and found["metadata"]["namespace"] in OURS), found["metadata"]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("release", OTHERS)
def test_no_chart_renders_a_password(release: str, profile: str) -> None:
    """What Helm renders stands in the release and in every tool that shows manifests."""
    for found in render(release, profile):
        if found["kind"] == "Secret":
            held = {**(found.get("data") or {}), **(found.get("stringData") or {})}
            secret = {key for key, value in held.items() if value and re.search("(?i)password|key|token", key)}
            assert secret <= HARMLESS.get(found["metadata"]["name"], set()), found["metadata"]["name"]


def test_the_database_is_restored_as_the_runbook_says(tmp_path: Path) -> None:
    runbook = (VALUES.parent / "docs" / "operations.md").read_text("utf-8")
    (given,) = re.findall(r"^   ```yaml\n(   fullnameOverride.*?)^   ```", runbook, re.MULTILINE | re.DOTALL)
    file = tmp_path / "restore.yaml"
    file.write_text(yaml.safe_dump(laid(values("database", "inside"), yaml.safe_load(textwrap.dedent(given)))), "utf-8")
    folder = whole_chart_folder("database")
    rendered = yaml.safe_load_all(
        helm("template", "x", str(folder), "-n", "databases", "-f", str(file), "--kube-version", "1.30")
    )
    (cluster,) = [found for found in rendered if found and found["kind"] == "Cluster"]
    recovery = cluster["spec"]["bootstrap"]["recovery"]
    assert recovery["recoveryTarget"].keys() == {"targetTime"}
    (source,) = [one for one in cluster["spec"]["externalClusters"] if one["name"] == recovery["source"]]
    assert source["barmanObjectStore"]["serverName"] == "platform-db"
    assert cluster["metadata"]["name"] == "platform-db-2"
