"""Our chart and the values of all others, rendered by Helm itself in both profiles."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.parts import program

VALUES = Path(__file__).parents[3] / "helm-values"
PROFILES = ("small", "production")
TEMPLATES = sorted(path.parent.name for path in VALUES.glob("*/values.yaml.gotmpl"))
ARROWS: dict[str, Any] = yaml.safe_load((VALUES / "platform" / "files" / "arrows.yaml").read_text("utf-8"))
Object = dict[str, Any]


@pytest.fixture(scope="module")
def helm() -> str:
    return program("helm", "install Helm 3.19 or newer: https://helm.sh/docs/intro/install")


def _helm(helm: str, *arguments: str) -> str:
    done = subprocess.run([helm, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _values_of(helm: str, release: str, profile: str, folder: Path) -> dict[str, Any]:
    """What helmfile makes of a values template: Helm's own engine, with the profile as its values."""
    chart = folder / release
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("{apiVersion: v2, name: values, version: 0.0.0}", "utf-8")
    template = (VALUES / release / "values.yaml.gotmpl").read_text("utf-8")
    (chart / "templates" / "values.yaml").write_text(template, "utf-8")
    profile_file = str(VALUES / "environments" / f"{profile}.yaml")
    return dict(yaml.safe_load(_helm(helm, "template", "values", str(chart), "--values", profile_file)))


@pytest.fixture(scope="module", params=PROFILES)
def rendered(request: pytest.FixtureRequest, helm: str, tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    folder = tmp_path_factory.mktemp("platform")
    values = folder / "values.yaml"
    values.write_text(yaml.safe_dump(_values_of(helm, "platform", request.param, folder)), "utf-8")
    chart = str(VALUES / "platform")
    out = _helm(helm, "template", "platform", chart, "-n", "mlplatform", "-f", str(values), "--kube-version", "1.30")
    return [found for found in yaml.safe_load_all(out) if found]


def test_our_chart_passes_helm_lint(helm: str) -> None:
    _helm(helm, "lint", "--strict", "--kube-version", "1.34", str(VALUES / "platform"))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("release", TEMPLATES)
def test_values_are_made_for_every_profile(helm: str, release: str, profile: str, tmp_path: Path) -> None:
    assert _values_of(helm, release, profile, tmp_path)


def test_no_secret_is_rendered(rendered: list[Object]) -> None:
    assert not [found for found in rendered if found["kind"] == "Secret"]
    for found in rendered:
        for name, value in _texts(found):
            named = re.search(r"password|secret.?key$|token$", name, re.IGNORECASE)
            assert not (named and value), (found["kind"], name)


def _texts(value: Any, name: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in _texts(item, str(key))]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item, name)]
    return [(name, value)] if isinstance(value, str) and name not in ("make_secrets.py", "secrets.yaml") else []


def test_no_object_is_made_twice(rendered: list[Object]) -> None:
    places = [(found["kind"], found["metadata"].get("namespace"), found["metadata"]["name"]) for found in rendered]
    assert [place for place, count in Counter(places).items() if count > 1] == []


def test_data_outlives_the_release(rendered: list[Object]) -> None:
    for found in rendered:
        if found["kind"] in ("Namespace", "Kafka"):
            assert found["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        if found["kind"] == "KafkaNodePool":
            assert found["spec"]["storage"]["deleteClaim"] is False


def test_every_namespace_of_ours_denies_what_no_arrow_allows(rendered: list[Object]) -> None:
    namespaces = {found["metadata"]["name"] for found in rendered if found["kind"] == "Namespace"}
    denying = {
        found["metadata"]["namespace"]
        for found in rendered
        if found["kind"] == "NetworkPolicy" and found["spec"]["podSelector"] == {} and _is_default(found)
    }
    assert namespaces == denying


def _is_default(policy: Object) -> bool:
    return set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"} and "ingress" not in policy["spec"]


ENDS: dict[str, dict[str, Any]] = ARROWS["ends"]
PAIRS = [
    (source, target, port) for source in ENDS for target in ENDS for port in (5432, 8000, 8080, 8083, 9000, 9092, 5000)
]


def test_connections_are_allowed_exactly_where_there_is_an_arrow(rendered: list[Object]) -> None:
    """Each end is a pod with exactly the labels of its end; what selects it decides."""
    policies = [found for found in rendered if found["kind"] == "NetworkPolicy"]
    ours = {found["metadata"]["name"] for found in rendered if found["kind"] == "Namespace"}
    wanted = {(arrow["from"], arrow["to"], port) for arrow in ARROWS["arrows"] for port in arrow["ports"]}
    for source, target, port in PAIRS:
        spaces = {ENDS[source]["namespace"], ENDS[target]["namespace"]}
        if len(spaces) == 1 or not spaces & ours:
            continue
        allowed = _may(policies, ENDS[source], ENDS[target], port, "Egress") and _may(
            policies, ENDS[target], ENDS[source], port, "Ingress"
        )
        covered = any(
            (other, another, port) in wanted
            for other in ENDS
            for another in ENDS
            if _is_part(ENDS[source], ENDS[other]) and _is_part(ENDS[target], ENDS[another])
        )
        assert allowed is covered, (source, target, port)


def _is_part(pod: dict[str, Any], end: dict[str, Any]) -> bool:
    return pod["namespace"] == end["namespace"] and (end.get("pods") or {}).items() <= (pod.get("pods") or {}).items()


def _may(policies: list[Object], pod: dict[str, Any], peer: dict[str, Any], port: int, way: str) -> bool:
    """Whether the policies that select a pod let it talk to a peer; all do if none selects it."""
    selecting = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == pod["namespace"]
        and way in policy["spec"]["policyTypes"]
        and policy["spec"]["podSelector"].get("matchLabels", {}).items() <= (pod.get("pods") or {}).items()
    ]
    key, side = ("egress", "to") if way == "Egress" else ("ingress", "from")
    rules = [rule for spec in selecting for rule in spec.get(key, ())]
    return not selecting or any(_allows(rule, side, peer, port) for rule in rules if side in rule)


def _allows(rule: Object, side: str, peer: dict[str, Any], port: int) -> bool:
    ports = {allowed["port"] for allowed in rule.get("ports", ())}
    return port in ports and any(_selects(selector, peer) for selector in rule[side])


def _selects(selector: Object, peer: dict[str, Any]) -> bool:
    if "namespaceSelector" not in selector:
        return False
    namespace = selector["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    labels = selector.get("podSelector", {}).get("matchLabels", {})
    return bool(namespace == peer["namespace"] and labels.items() <= (peer.get("pods") or {}).items())
