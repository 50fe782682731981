"""Each monitor finds the pods that it is meant for, and Prometheus may open a connection to them."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.parts import program
from tests.services.prometheus_server import GET_PROMETHEUS
from tests.services.stack.rendering import render, values

RECORDED = json.loads(
    (Path(__file__).parents[2] / "unit" / "serving" / "recorded" / "deployment.json").read_text("utf-8")
)["spec"]["template"]


@dataclass(frozen=True)
class Target:
    """A pod, or a Service, as its maker labels it.

    :param ports: names of the ports that it declares, and their numbers.
    :param scraped: the ports that are scraped.
    """

    namespace: str
    labels: dict[str, str]
    ports: dict[str, int]
    scraped: set[int]


STRIMZI = {"strimzi.io/cluster": "platform", "app.kubernetes.io/managed-by": "strimzi-cluster-operator"}
# Strimzi 1.2.0 gives all pods that tell metrics this port; the engine's pod is recorded under Seldon 1.17.1.
TARGETS = {
    "broker": Target("kafka", {**STRIMZI, "strimzi.io/kind": "Kafka"}, {"tcp-prometheus": 9404}, {9404}),
    "connect": Target("kafka", {**STRIMZI, "strimzi.io/kind": "KafkaConnect"}, {"tcp-prometheus": 9404}, {9404}),
    "statsd": Target("airflow", {"component": "statsd", "tier": "airflow"}, {"statsd-scrape": 9102}, {9102}),
    "engine": Target("models", RECORDED["metadata"]["labels"], {"metrics": 8000}, {8000, 6000}),
    "gateway": Target("istio-ingress", {"istio": "gateway"}, {"http-envoy-prom": 15090}, {15090}),
    "strimzi": Target("strimzi", {"strimzi.io/kind": "cluster-operator"}, {"http": 8080}, {8080}),
}
MONITORS = {
    "kafka": {"broker", "connect"},
    "airflow": {"statsd"},
    "seldon-executor": {"engine"},
    "model-servers": {"engine"},
    "istio-gateway": {"gateway"},
    "strimzi": {"strimzi"},
}
# What the charts of others monitor: namespace and port.
ELSEWHERE = {"mlflow": 5000, "minio": 9000, "databases": 9187}


@pytest.fixture(scope="module")
def objects() -> tuple[Any, ...]:
    return render("platform", "small")


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector of Kubernetes matches labels."""
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ()))


def test_each_monitor_finds_what_it_is_for(objects: tuple[Any, ...]) -> None:
    found = {}
    for monitor in (one for one in objects if one["kind"] in ("PodMonitor", "ServiceMonitor")):
        spec, namespace = monitor["spec"], monitor["metadata"]["namespace"]
        (endpoint,) = spec.get("podMetricsEndpoints") or spec["endpoints"]
        found[monitor["metadata"]["name"]] = {
            name
            for name, target in TARGETS.items()
            if target.namespace == namespace
            and selects(spec["selector"], target.labels)
            and endpoint["port"] in target.ports
        }
    assert found == MONITORS


def test_what_a_model_server_tells_bears_the_names_of_its_deployment(objects: tuple[Any, ...], tmp_path: Path) -> None:
    """Prometheus itself applies the relabelings of the monitor to a pod as Seldon makes it."""
    (monitor,) = [one for one in objects if one["metadata"]["name"] == "model-servers"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    labels = {
        f"__meta_kubernetes_pod_label_{_plain(key)}": text for key, text in RECORDED["metadata"]["labels"].items()
    }
    targets = {"targets": ["10.1.2.3:8000"], "labels": {"__meta_kubernetes_pod_ip": "10.1.2.3", **labels}}
    relabelings = [{_snake(key): value for key, value in one.items()} for one in endpoint["relabelings"]]
    job = {"job_name": "models", "static_configs": [targets], "relabel_configs": relabelings}
    (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job]}))
    command = [program("promtool", GET_PROMETHEUS), "check", "service-discovery", "--timeout=2s"]
    done = subprocess.run([*command, str(tmp_path / "prometheus.yml"), "models"], capture_output=True, check=True)
    ((target,),) = (json.loads(done.stdout),)
    found = target["labels"]
    assert found["__address__"] == "10.1.2.3:6000"
    assert (found["deployment_name"], found["predictor_name"]) == ("iris", "main")


def _plain(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", label)


def _snake(key: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", key)


def test_prometheus_takes_what_a_metric_says_of_a_rollout(objects: tuple[Any, ...]) -> None:
    """Its label `namespace` would be `exported_namespace` otherwise."""
    (monitor,) = [one for one in objects if one["kind"] == "ServiceMonitor" and one["metadata"]["name"] == "airflow"]
    assert monitor["spec"]["endpoints"][0]["honorLabels"] is True


def test_prometheus_may_reach_what_it_scrapes(objects: tuple[Any, ...]) -> None:
    ours = {one["metadata"]["name"] for one in objects if one["kind"] == "Namespace"}
    wanted = {(target.namespace, port) for target in TARGETS.values() for port in target.scraped}
    wanted |= set(ELSEWHERE.items())
    for namespace, port in sorted(wanted):
        if namespace in ours:
            assert any(_lets_in(policy, port) for policy in objects if _is_policy(policy, namespace)), (namespace, port)


def _is_policy(found: Any, namespace: str) -> bool:
    return found["kind"] == "NetworkPolicy" and found["metadata"]["namespace"] == namespace


def _lets_in(policy: Any, port: int) -> bool:
    from_prometheus = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    rules = policy["spec"].get("ingress", ())
    return any(
        from_prometheus in rule.get("from", ()) and port in [one["port"] for one in rule["ports"]] for rule in rules
    )


def test_no_alert_is_about_a_part_that_is_not_ours() -> None:
    names = {
        profile: {one["metadata"]["name"] for one in render("platform", profile) if one["kind"] == "PrometheusRule"}
        for profile in ("small", "production")
    }
    assert {"mlplatform-minio", "mlplatform-postgresql"} <= names["small"]
    assert names["small"] - names["production"] == {"mlplatform-minio", "mlplatform-postgresql"}


def test_airflow_sends_labels() -> None:
    """Without tags all figures of one name overwrite each other."""
    config = values("airflow", "small")["config"]["metrics"]
    assert config == {"statsd_influxdb_enabled": "True", "legacy_names_on": "False"}
