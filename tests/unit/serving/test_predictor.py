"""Predictors: what a spec makes, and what of a template stays."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.serving.model import ServableModel
from airflow_mlplatform.serving.predictor import MARK, main_name, mark_of, predictor, protocol, sharing
from airflow_mlplatform.specs.deployment import Serving

MODEL = ServableModel(name="wine", version="3", run_id="ab12", uri="s3://models/wine/3")
PARAMETERS = {"xtype": "DataFrame", "n": 3, "share": 0.5, "wide": True}
OTHER = MODEL.model_copy(update={"version": "4", "uri": "s3://models/wine/4"})


def serving(**keys: Any) -> Serving:
    return Serving.model_validate({"name": "wine", **keys})


def template(**keys: Any) -> dict[str, Any]:
    return {"spec": {"predictors": [keys]}}


def container(found: dict[str, Any], name: str = "model") -> dict[str, Any]:
    specs = [one["spec"] for one in found["componentSpecs"]]
    return next(one for spec in specs for one in spec["containers"] if one["name"] == name)


def test_a_spec_without_a_template() -> None:
    found = predictor(serving(storage_secret="s3"), MODEL)
    assert found["name"] == "main"
    assert found["graph"] == {
        "name": "model",
        "implementation": "MLFLOW_SERVER",
        "modelUri": "s3://models/wine/3",
        "envSecretRefName": "s3",
    }
    assert (found["traffic"], found["replicas"], found["progressDeadlineSeconds"]) == (100, 1, 600)
    assert found["annotations"] == {
        "version": "3",
        "mlplatform.airflow/model": "wine",
        "mlplatform.airflow/version": "3",
        "mlplatform.airflow/mlflow_run": "ab12",
    }
    assert "image" not in container(found)


def test_a_model_that_is_not_registered_is_not_named() -> None:
    assert predictor(serving(), ServableModel(uri="s3://models/x"))["annotations"] == {}


def test_an_image_of_ones_own_is_that_of_the_graphs_node() -> None:
    found = predictor(serving(image="mine:1"), MODEL)
    assert container(found, found["graph"]["name"])["image"] == "mine:1"
    assert found["graph"]["implementation"] == "MLFLOW_SERVER"


def test_parameters_have_the_type_of_their_value() -> None:
    found = predictor(serving(protocol="seldon", parameters=PARAMETERS), MODEL)
    assert found["graph"]["parameters"] == [
        {"name": "xtype", "type": "STRING", "value": "DataFrame"},
        {"name": "n", "type": "INT", "value": "3"},
        {"name": "share", "type": "FLOAT", "value": "0.5"},
        {"name": "wide", "type": "BOOL", "value": "true"},
    ]


def test_environment_names_secrets_and_never_reads_them() -> None:
    found = predictor(serving(log_level="DEBUG", env={"A": "1", "B": {"secret": "s", "key": "k"}}), MODEL)
    assert container(found)["env"] == [
        {"name": "SELDON_LOG_LEVEL", "value": "DEBUG"},
        {"name": "A", "value": "1"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]


def test_a_password_of_airflow_is_refused_because_it_would_show() -> None:
    with pytest.raises(ConfigurationError, match=r"serving\.env\.B: the password of the Airflow connection 'shop'"):
        predictor(serving(env={"B": {"connection": "shop"}}), MODEL)


def test_size_and_place() -> None:
    found = predictor(
        serving(
            replicas=2,
            resources={"cpu": 0.5, "memory": "1Gi", "gpu": 1},
            service_account="server",
            node_selector={"disk": "fast"},
            tolerations=[{"key": "gpu", "operator": "Exists"}],
            ready_timeout="20m",
        ),
        MODEL,
    )
    quantities = {"cpu": "0.5", "memory": "1Gi", "nvidia.com/gpu": "1"}
    assert container(found)["resources"] == {"requests": quantities, "limits": quantities}
    spec = found["componentSpecs"][0]["spec"]
    assert (spec["serviceAccountName"], found["graph"]["serviceAccountName"]) == ("server", "server")
    assert spec["nodeSelector"] == {"disk": "fast"}
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert (found["replicas"], found["progressDeadlineSeconds"]) == (2, 1200)


def test_load_decides_instead_of_a_number() -> None:
    found = predictor(serving(autoscale={"min": 2, "max": 5, "cpu": 70}, resources={"cpu": 1}), MODEL)
    target = {"type": "Utilization", "averageUtilization": 70}
    assert found["componentSpecs"][0]["hpaSpec"] == {
        "minReplicas": 2,
        "maxReplicas": 5,
        "metricsv2": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    assert "replicas" not in found


@pytest.mark.parametrize(
    ("chosen", "asked"),
    [("v2", {"httpGet": {"path": "/v2/health/ready", "port": "http", "scheme": "HTTP"}}), ("seldon", None)],
)
def test_a_slow_start_is_no_reason_to_be_killed(chosen: str, asked: dict[str, Any] | None) -> None:
    found = container(predictor(serving(protocol=chosen, ready_timeout="10m"), MODEL))
    start = found["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] == 600
    probe = found["readinessProbe"]
    assert {key: probe[key] for key in ("httpGet", "tcpSocket") if key in probe} == (
        asked or {"tcpSocket": {"port": "http"}}
    )


def test_servers_have_no_rights_and_tell_their_last_words() -> None:
    found = predictor(serving(), MODEL)
    assert container(found)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(found)["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert found["componentSpecs"][0]["spec"]["automountServiceAccountToken"] is False


class TestTemplate:
    GIVEN = template(
        name="default",
        replicas=3,
        labels={"team": "a"},
        annotations={"note": "kept"},
        graph={
            "name": "scorer",
            "type": "MODEL",
            "parameters": [{"name": "xtype", "type": "STRING", "value": "ndarray"}],
            "children": [{"name": "next", "implementation": "SKLEARN_SERVER", "modelUri": "s3://x"}],
        },
        componentSpecs=[
            {"spec": {"containers": [{"name": "side", "image": "side:1"}], "priorityClassName": "high"}},
            {
                "metadata": {"labels": {"a": "b"}},
                "spec": {
                    "containers": [
                        {
                            "name": "scorer",
                            "image": "scorer:1",
                            "env": [{"name": "A", "value": "old"}, {"name": "C", "value": "3"}],
                            "resources": {"limits": {"memory": "4Gi"}},
                            "readinessProbe": {"exec": {"command": ["true"]}},
                        }
                    ],
                    "securityContext": {"runAsUser": 0},
                    "nodeSelector": {"zone": "z"},
                },
            },
        ],
    )

    def test_it_is_only_completed(self) -> None:
        found = predictor(
            serving(template=self.GIVEN, env={"A": "new"}, node_selector={"disk": "fast"}), MODEL, "default"
        )
        assert (found["replicas"], found["labels"]["team"], found["annotations"]["note"]) == (3, "a", "kept")
        graph = found["graph"]
        assert (graph["name"], graph["type"], graph["modelUri"]) == ("scorer", "MODEL", MODEL.uri)
        assert "implementation" not in graph
        assert graph["children"] == [{"name": "next", "implementation": "SKLEARN_SERVER", "modelUri": "s3://x"}]
        side, own = found["componentSpecs"]
        assert side == self.GIVEN["spec"]["predictors"][0]["componentSpecs"][0]
        assert own["metadata"] == {"labels": {"a": "b"}}
        assert own["spec"]["nodeSelector"] == {"zone": "z", "disk": "fast"}
        scorer = container(found, "scorer")
        assert scorer["env"] == [{"name": "A", "value": "new"}, {"name": "C", "value": "3"}]
        assert (scorer["image"], scorer["resources"]) == ("scorer:1", {"limits": {"memory": "4Gi"}})
        assert scorer["readinessProbe"] == {"exec": {"command": ["true"]}}

    def test_a_graph_of_several_gets_the_model_where_it_is_served(self) -> None:
        served = {"name": "scorer", "implementation": "MLFLOW_SERVER", "modelUri": "s3://old"}
        graph = {"name": "prepare", "type": "TRANSFORMER", "children": [served]}
        specs = [{"spec": {"containers": [{"name": "prepare", "image": "prepare:1"}]}}]
        given = template(graph=graph, componentSpecs=specs)
        found = predictor(serving(template=given, storage_secret="s3"), MODEL)
        (child,) = found["graph"]["children"]
        assert (child["modelUri"], child["envSecretRefName"]) == (MODEL.uri, "s3")
        assert "modelUri" not in found["graph"]
        # The order in which the operator names them.
        assert [one["name"] for one in found["componentSpecs"][0]["spec"]["containers"]] == ["prepare", "scorer"]

    def test_what_the_spec_says_wins(self) -> None:
        keys: dict[str, Any] = {
            "replicas": 1,
            "image": "mine:2",
            "resources": {"cpu": 1},
            "parameters": {"xtype": "DataFrame"},
        }
        found = predictor(serving(template=self.GIVEN, **keys), MODEL)
        assert found["replicas"] == 1
        assert container(found, "scorer")["image"] == "mine:2"
        assert container(found, "scorer")["resources"]["requests"] == {"cpu": "1"}
        assert found["graph"]["parameters"] == [{"name": "xtype", "type": "STRING", "value": "DataFrame"}]

    def test_a_server_that_runs_as_the_template_says_is_not_restricted(self) -> None:
        assert "securityContext" not in container(predictor(serving(template=self.GIVEN), MODEL), "scorer")

    def test_a_server_that_is_not_known_is_asked_nothing_of_protocol_v2(self) -> None:
        found = predictor(serving(template=self.GIVEN), MODEL)
        assert container(found, "scorer")["livenessProbe"]["tcpSocket"] == {"port": "http"}

    def test_it_is_not_changed_itself(self) -> None:
        before = repr(self.GIVEN)
        predictor(serving(template=self.GIVEN, env={"A": "new"}, autoscale={"max": 2}), MODEL)
        assert repr(self.GIVEN) == before

    def test_its_name_is_kept_where_nothing_serves_yet(self) -> None:
        assert main_name(serving(template=self.GIVEN)) == "default"
        assert main_name(serving()) == "main"

    def test_two_predictors_are_one_too_many(self) -> None:
        two = {"spec": {"predictors": [{"name": "a"}, {"name": "b"}]}}
        with pytest.raises(ConfigurationError, match="has 2 predictors; keep the one"):
            predictor(serving(template=two), MODEL)

    @pytest.mark.parametrize("graph", [{"name": "Bad_Node"}, {"name": "with.dots"}])
    def test_names_that_end_in_failed_are_refused_before(self, graph: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match=r"graph\.name is .* use lower case"):
            predictor(serving(template=template(graph=graph)), MODEL)

    def test_its_protocol_counts_unless_the_spec_says_one(self) -> None:
        given = {"spec": {"protocol": "seldon"}}
        assert protocol(serving(template=given)) == "seldon"
        assert protocol(serving(template=given, protocol="v2")) == "v2"

    def test_serialized_it_still_knows_what_was_said(self) -> None:
        said = serving(template=self.GIVEN)
        again = Serving.model_validate(said.model_dump(exclude_unset=True))
        assert predictor(again, MODEL) == predictor(said, MODEL)


class TestMark:
    def test_it_is_the_same_for_the_same_and_for_other_weights(self) -> None:
        one, two = predictor(serving(), MODEL), predictor(serving(), MODEL)
        assert mark_of(one) == mark_of(two) == mark_of(sharing(one, 25))
        assert mark_of(predictor(serving(replicas=3), MODEL)) == mark_of(one)

    @pytest.mark.parametrize(
        "keys",
        [
            {"image": "x"},
            {"protocol": "seldon"},
            {"env": {"A": "1"}},
            {"template": {"spec": {"annotations": {"a": "b"}}}},
        ],
    )
    def test_it_changes_with_what_makes_the_pods(self, keys: dict[str, Any]) -> None:
        assert mark_of(predictor(serving(**keys), MODEL)) != mark_of(predictor(serving(), MODEL))

    def test_another_model_is_another_mark(self) -> None:
        assert mark_of(predictor(serving(), OTHER)) != mark_of(predictor(serving(), MODEL))

    def test_a_shadow_has_pods_of_its_own(self) -> None:
        main = predictor(serving(), MODEL)
        shadow = sharing(main, 20, shadow=True)
        assert (shadow["shadow"], shadow["traffic"]) == (True, 20)
        assert mark_of(shadow) != mark_of(main)
        assert sharing(shadow, 100) == main

    def test_what_somebody_else_made_stays_without_one(self) -> None:
        foreign = {"name": "default", "labels": {"team": "a"}, "traffic": 100}
        assert sharing(foreign, 75) == {"name": "default", "labels": {"team": "a"}, "traffic": 75}
        assert MARK not in sharing(foreign, 75)["labels"]
