"""Our chart and the values of all others, rendered by Helm itself in both profiles."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
import yaml

from tests.services.stack.rendering import PROFILES, RELEASES, VALUES, Object, facts, helm, is_installed, render, values

ARROWS: dict[str, Any] = yaml.safe_load((VALUES / "platform" / "files" / "arrows.yaml").read_text("utf-8"))


@pytest.fixture(scope="module", params=PROFILES)
def rendered(request: pytest.FixtureRequest) -> list[Object]:
    return list(render("platform", request.param))


def test_our_chart_passes_helm_lint() -> None:
    helm("lint", "--strict", "--kube-version", "1.34", str(VALUES / "platform"))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("release", RELEASES)
def test_values_are_made_for_every_profile(release: str, profile: str) -> None:
    assert values(release, profile)


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


def test_claims_of_brokers_stay_when_the_resource_goes(rendered: list[Object]) -> None:
    (pool,) = [found for found in rendered if found["kind"] == "KafkaNodePool"]
    assert pool["spec"]["storage"]["deleteClaim"] is False


def test_every_namespace_of_ours_denies_what_no_arrow_allows(rendered: list[Object]) -> None:
    namespaces = {found["metadata"]["name"] for found in rendered if found["kind"] == "Namespace"}
    denying = {
        found["metadata"]["namespace"]
        for found in rendered
        if found["kind"] == "NetworkPolicy" and found["spec"]["podSelector"] == {} and _is_default(found)
    }
    assert namespaces == denying


def test_outside_means_neither_private_addresses_nor_the_metadata_service(rendered: list[Object]) -> None:
    outside = [found for found in rendered if found["metadata"]["name"].endswith("-to-the-world")]
    assert len(outside) == len(ARROWS["anywhere"])
    for policy in outside:
        world, *services = policy["spec"]["egress"]
        kept = world["to"][0]["ipBlock"]["except"]
        assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(kept)
        assert all(rule["ports"] for rule in services)


def test_a_private_service_is_reached_on_its_ports_only() -> None:
    (policy,) = [one for one in render("platform", "production") if one["metadata"]["name"] == "mlflow-to-the-world"]
    (given,) = facts("production")["privateServices"]
    ports = [{"port": port, "protocol": "TCP"} for port in given["ports"]]
    assert policy["spec"]["egress"][1] == {"to": [{"ipBlock": {"cidr": given["cidr"]}}], "ports": ports}


def test_everything_with_a_ui_is_behind_the_gateway_with_the_certificate(rendered: list[Object]) -> None:
    ingresses = [found for found in rendered if found["kind"] == "Ingress"]
    assert {found["metadata"]["name"] for found in ingresses} == {"airflow", "mlflow", "minio", "connect", "grafana"}
    for found in ingresses:
        (tls,), (rule,) = found["spec"]["tls"], found["spec"]["rules"]
        assert tls["hosts"] == [rule["host"]]
        assert tls["secretName"] == "platform-tls"
        assert found["spec"]["ingressClassName"] == "istio"
    (gateway,) = [found for found in rendered if found["kind"] == "Gateway"]
    assert [server["tls"].get("httpsRedirect", False) for server in gateway["spec"]["servers"]] == [False, True]


def test_production_has_its_database_and_its_s3_elsewhere() -> None:
    found = facts("production")
    assert [name for name in RELEASES if not is_installed(name, "production")] == [
        "cloudnative-pg",
        "database",
        "minio",
    ]
    mlflow = values("mlflow", "production")
    assert mlflow["backendStore"]["postgres"]["host"] == found["postgresql"]["host"]
    assert mlflow["auth"]["postgres"]["host"] == found["postgresql"]["host"]
    assert mlflow["extraEnvVars"]["MLFLOW_S3_ENDPOINT_URL"] == found["s3"]["endpoint"]
    assert not any(
        found["kind"] == "Job" and "make-secrets" in found["metadata"]["name"]
        for found in render("platform", "production")
    )


def test_a_database_in_the_cluster_is_backed_up_each_night() -> None:
    backups = values("database", "inside")["backups"]
    assert backups["endpointURL"] == "http://minio.minio.svc.cluster.local:9000"
    (nightly,) = backups["scheduledBackups"]
    assert re.fullmatch(r"\d+ \d+ \d+ \* \* \*", nightly["schedule"])
    user = next(one for one in values("minio", "inside")["users"] if one["accessKey"] == "backups")
    assert user["policy"] == "backups"


def test_somebody_makes_the_certificate() -> None:
    """In `small` the job that makes secrets, in `production` cert-manager; never both."""
    for profile in PROFILES:
        objects = render("platform", profile)
        asked = [found for found in objects if found["kind"] == "Certificate"]
        made = [found for found in objects if "platform-tls" in (found.get("data") or {}).get("secrets.yaml", "")]
        assert len(asked) + len(made) == 1, profile


def test_connect_may_read_the_secrets_that_are_named_and_no_others() -> None:
    assert not _role_of_connect("small")
    chart = str(VALUES / "platform")
    text = helm(
        "template",
        "platform",
        chart,
        "--set",
        "connect.secrets={shop}",
        "--show-only",
        "templates/connect.yaml",
        "--kube-version",
        "1.30",
    )
    (role,) = [found for found in yaml.safe_load_all(text) if found["kind"] == "Role"]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["shop"], "verbs": ["get"]}]


def _role_of_connect(profile: str) -> list[Object]:
    """A rule without names would be one for all secrets."""
    return [found for found in render("platform", profile) if found["metadata"]["name"] == "connect-secrets"]


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
