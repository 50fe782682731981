"""The whole stack, from records of what Helm made of it: it fits, it survives, no upgrade or removal loses anything."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.services.stack.inventory import gibibytes
from tests.unit.stack.conftest import VALUES

RECORDED = Path(__file__).parent / "rendered"
RECORDS: dict[str, dict[str, dict[str, Any]]] = {
    path.stem: yaml.load(path.read_text("utf-8"), yaml.CSafeLoader) for path in RECORDED.glob("*.yaml")
}
PROFILES = ("small", "inside")
INSTALL = (Path(__file__).parents[3] / "docs" / "install.md").read_text("utf-8")
# What kind's and k3d's own pods request: etcd, CoreDNS, the network.
OWN = 0.3
DATA = ("Namespace/", "PersistentVolumeClaim/", "Kafka", "Cluster/", "Database/")
STATELESS = ("KafkaConnect/",)
# One pod of each is enough: what they look after goes on without them, or they have nothing to share.
SINGLE = {
    "grafana",
    "kube-state-metrics",
    "stack-operator",
    "controller-manager",
    "statsd",
    "entity-operator",
    "kafka-exporter",
    "cloudnative-pg",
}
# Their operators and Prometheus' chart know how many may go.
BUDGETED_ELSEWHERE = ("Kafka", "KafkaConnect", "KafkaNodePool", "Cluster")


def _all(profile: str, what: str) -> dict[str, Any]:
    """Everything recorded of one kind, of all releases."""
    found: dict[str, Any] = {}
    for release in RECORDS[profile].values():
        found |= release.get(what, {})
    return found


def _pods(profile: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what runs for long."""
    yield from ((name, one) for name, one in _all(profile, "pods").items() if not name.startswith("Job/"))


def _memory(profile: str, of: str) -> float:
    return sum(_sum(one, of, gibibytes) for _, one in _pods(profile))


def _worker() -> dict[str, Any]:
    template = yaml.safe_load((VALUES / "airflow" / "worker-pod.yaml").read_text("utf-8"))
    return dict(template["spec"]["containers"][0]["resources"])


def _facts(profile: str) -> dict[str, Any]:
    name = "production" if profile == "inside" else profile
    return dict(yaml.safe_load((VALUES / "environments" / f"{name}.yaml").read_text("utf-8")))


def test_small_fits_8_gib_with_all_its_workers_a_training_and_a_model() -> None:
    workers = _facts("small")["sizes"]["airflow"]["tasks"] * gibibytes(_worker()["requests"]["memory"])
    stack = _memory("small", "memory")
    assert stack + workers + OWN <= 7.0
    for figure in (stack, workers, OWN, _memory("small", "limit")):
        assert f"| {figure:.1f} GiB |" in INSTALL, figure


@pytest.mark.parametrize(("profile", "record"), [("small", "small"), ("production", "inside")])
def test_what_the_prerequisites_ask_for_is_enough(prerequisites: ModuleType, profile: str, record: str) -> None:
    cpus, memory, nodes = prerequisites.NEEDED[profile]
    elsewhere = ("cnpg-system", "databases", "minio") if profile == "production" else ()
    found = [one for name, one in _pods(record) if name.split("/")[1] not in elsewhere]
    assert sum(_sum(one, "cpu", _cpus) for one in found) <= cpus
    assert sum(_sum(one, "memory", gibibytes) for one in found) <= memory
    assert nodes >= _facts(profile)["sizes"]["kafka"]["replicas"]


def _sum(one: dict[str, Any], what: str, amount: Callable[[str], float]) -> float:
    return float(one["replicas"] * sum(amount(container[what]) for container in one["containers"].values()))


def _cpus(quantity: str) -> float:
    return float(quantity.removesuffix("m") or 0) / (1000 if quantity.endswith("m") else 1)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_container_says_what_it_needs_and_ends_at(profile: str) -> None:
    for name, one in _pods(profile):
        for container, asked in one["containers"].items():
            assert asked["memory"], (name, container)
            assert asked["limit"], (name, container)


@pytest.mark.parametrize("profile", PROFILES)
def test_images_are_pinned_and_from_registries_that_still_give_them(profile: str) -> None:
    for name, one in _all(profile, "pods").items():
        for container in one["containers"].values():
            image = container["image"]
            assert not re.search(r"bitnami|gcr\.io/(?!distroless)|k8s\.gcr\.io", image), (name, image)
            # Charts in Istio's source tree name a build of their own; those of its releases name the release.
            if image not in ("", "auto") and "istio.io/testing" not in image:
                assert re.search(r":[\w.-]*\d[\w.-]*$|:dev$", image), (name, image)


def test_production_runs_everything_twice_apart_and_never_drains_the_last_one() -> None:
    budgets = [budget for release in RECORDS["inside"].values() for budget in release.get("budgets", ())]
    scaled = _all("inside", "scaled")
    for name, one in _pods("inside"):
        kind, _, short = name.split("/")
        if kind == "DaemonSet" or any(short.endswith(single) for single in SINGLE):
            continue
        replicas = max(one["replicas"], scaled.get(short, 1))
        assert replicas >= 2, name
        if kind in BUDGETED_ELSEWHERE:
            continue
        labels = one["labels"].items()
        covered = any(budget.items() <= labels for budget in budgets)
        assert covered or kind in ("Prometheus", "Alertmanager"), name
        assert one["spread"], name


@pytest.mark.parametrize("profile", PROFILES)
def test_a_removal_keeps_data_and_definitions(profile: str) -> None:
    kept = {place for release in RECORDS[profile].values() for place in release.get("kept", ())}
    data = {place for place in _all(profile, "fixed") if place.startswith(DATA) and not place.startswith(STATELESS)}
    assert data
    assert data <= kept
    definitions = _all(profile, "definitions")
    assert {"seldondeployments.machinelearning.seldon.io", "kafkas.kafka.strimzi.io"} <= definitions.keys()
    assert set(definitions.values()) == {"folder", "kept"}


@pytest.mark.parametrize("profile", PROFILES)
def test_an_upgrade_from_the_former_release_changes_nothing_that_may_not_change(profile: str) -> None:
    """Selectors and volume templates cannot be changed, and a resource of another name has no data."""
    former = f"former-{profile}"
    fixed = _all(profile, "fixed")
    for place, fields in _all(former, "fixed").items():
        assert fixed.get(place) == fields, place
    assert _all(former, "definitions").keys() <= _all(profile, "definitions").keys()
    secrets = _all(profile, "secrets")
    for name, keys in _all(former, "secrets").items():
        assert set(keys) <= set(secrets[name]), name
