"""Who hears what; and that it comes through Airflow's serialisation of DAGs."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from airflow_mlplatform.alerts.listener import SCHEMA_KEY, Listener, listeners_in
from airflow_mlplatform.alerts.message import NO_ALERT
from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.load import load_text
from tests.unit.alerts.test_message import alert, message
from tests.unit.factory.dags import build, kubernetes
from tests.unit.specs.examples import DEPLOYMENT, TRAINING

__all__ = ["kubernetes"]

LISTENING = f"""{TRAINING}
on_alert:
- {{alert: ModelDrifts, labels: {{model: shop}}, cooldown: 1d}}
- {{alert: ModelDrifts, labels: {{severity: critical}}}}
"""
ROLLED_BACK = DEPLOYMENT + "on_alert: [{alert: ModelFails, labels: {deployment_name: shop}, action: rollback}]\n"


def test_a_listener_hears_alerts_with_its_labels() -> None:
    listener = Listener(alert="ModelFails", labels={"model": "wine", "zone": ""})
    (wine, _, _) = alerts = message(
        alert(model="wine", zone="", pod="a"), alert(model="beer", zone=""), alert(model="wine")
    ).alerts
    assert listener.heard(alerts) == (wine,)
    assert listener.heard(message(alert("ModelSlow", model="wine", zone="")).alerts) == ()


def test_what_a_dag_listens_to_comes_through_the_database() -> None:
    dag = build(LISTENING)
    assert "alert:ModelDrifts" in dag.tags
    read = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    assert read.params["alert"] == NO_ALERT
    assert listeners_in(read.params.get_param("alert").schema) == (
        Listener(alert="ModelDrifts", labels={"model": "shop"}, cooldown=timedelta(days=1)),
        Listener(alert="ModelDrifts", labels={"severity": "critical"}, cooldown=timedelta(hours=6)),
    )
    assert "**Starts on alert:** on ModelDrifts (model=shop), pause 1d" in (dag.doc_md or "")


def test_a_dag_without_on_alert_listens_to_nothing() -> None:
    assert "alert" not in build(TRAINING).params


@pytest.mark.parametrize("runtime", ["kubernetes", "local"])
def test_an_alert_says_what_a_run_of_a_deployment_is_for(runtime: str, request: pytest.FixtureRequest) -> None:
    if runtime == "kubernetes":
        request.getfixturevalue(runtime)
    dag = build(ROLLED_BACK)
    (listener,) = listeners_in(dag.params.get_param("alert").schema)
    assert (listener.action, listener.sequence) == ("rollback", "alert__rollback__")
    assert {"action", "replicas", "alert"} <= set(dag.params)


def test_what_another_release_wrote_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="another release"):
        listeners_in({SCHEMA_KEY: [{"alert": "ModelFails", "unless": "sunday"}]})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LISTENING.replace("model: shop}, c", "alertname: x}, c"), "alertname is what alert: says already"),
        (LISTENING.replace("cooldown: 1d", "cool_down: 1d"), 'did you mean "cooldown"?'),
        (LISTENING.replace("cooldown: 1d", "cooldown: 0s"), "is no duration"),
        (LISTENING.replace("model: shop}, c", "model: 7}, c"), "must be text but is the number 7; put it in quotes"),
        (LISTENING + "params: {alert: {type: string, default: x}}\n", "params: alert is where a run finds its alert"),
        (LISTENING + "params: {rows: {type: integer}}\n", "on_alert: an alert knows no value for params.rows"),
        (LISTENING.replace("ModelDrifts, labels: {m", f"{'x' * 91}, labels: {{m"), "on_alert[0].alert"),
        (ROLLED_BACK.replace("labels: {deployment_name: shop}, ", ""), "on_alert[0].labels: missing; add it"),
        (ROLLED_BACK.replace(", action: rollback", ""), "on_alert[0].action: missing; add it"),
        (ROLLED_BACK.replace("action: rollback", "action: teardown"), "is not one of rollback, deploy"),
        (TRAINING.replace("seed: 1", "seed: '{{ params.alert.labels }}'"), "params.alert is not declared"),
    ],
)  # fmt: skip
def test_mistakes_are_told(text: str, problem: str) -> None:
    assert problem in "\n".join(str(found) for document in load_text(text) for found in document.problems)


def test_templates_may_use_the_alert() -> None:
    text = LISTENING.replace("seed: 1", "seed: \"{{ params.alert.labels.get('seed', 1) }}\"")
    assert [found for document in load_text(text) for found in document.problems] == []
