"""What each kind becomes: tasks, arrows, schedule, params; and that Airflow can serialise it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk import Asset
from airflow.serialization.serialized_objects import DagSerialization

from airflow_mlplatform.exceptions import SpecError
from airflow_mlplatform.factory.build import build_dag
from airflow_mlplatform.factory.training import combinations
from airflow_mlplatform.specs.load import load_file
from tests.unit.factory.dags import arrows, build, kubernetes
from tests.unit.specs.examples import DEPLOYMENT, ETL, STREAMING, TRAINING

__all__ = ["kubernetes"]

REPOSITORY = Path(__file__).parents[3]
SIMPLE_ETL = """\
apiVersion: mlplatform/v1
kind: etl
name: simple
extract: {files: {uri: "pond://raw/*.csv"}}
load: {uri: "pond://simple/{{ ds }}.parquet"}
"""
UNDATED_ETL = SIMPLE_ETL.replace("{{ ds }}", "{{ run_id }}")


def local_etl() -> str:
    """The example without what needs Kubernetes."""
    text = ETL.replace("  - container: {image: example/clean:1, command: [clean]}\n", "")
    return text.replace("TOKEN: {secret: shop, key: token}, ", "")


def test_an_etl_has_a_task_a_stage() -> None:
    assert arrows(build(local_etl())) == {
        "extract_orders": {"transform_1"},
        "extract_customers": {"transform_1"},
        "extract_rates": {"transform_1"},
        "transform_1": {"transform_2"},
        "transform_2": {"check"},
        "check": {"load"},
        "load": set(),
    }


def test_a_fused_etl_has_one_task() -> None:
    dag = build(local_etl().replace("stages: separate", "stages: fused"))
    assert arrows(dag) == {"etl": set()}


def test_a_load_is_the_asset_that_others_schedule_on() -> None:
    dag = build(SIMPLE_ETL)
    assert [asset.uri for asset in dag.get_task("load").outlets] == ["pond://simple/"]
    assert arrows(dag) == {"extract": {"load"}, "load": set()}


def test_the_head_becomes_the_dag() -> None:
    dag = build(local_etl())
    assert (dag.dag_id, dag.description, dag.schedule) == ("shop-etl", "Nightly orders into the data pond", "0 2 * * *")
    assert dag.start_date == datetime(2026, 1, 1, tzinfo=UTC)
    assert not dag.catchup
    assert dag.tags == {"etl", "shop", "nightly"}
    assert dag.params["rows"] == 1000
    assert dag.params.get_param("rows").schema == {"type": "integer", "minimum": 1}
    task = dag.get_task("load")
    assert (task.owner, task.retries, task.retry_delay) == ("data-team", 2, timedelta(minutes=5))
    assert task.execution_timeout == timedelta(hours=2)
    assert "s3://pond/orders" in (dag.doc_md or "")
    assert (dag.doc_md or "").startswith("Nightly orders into the data pond")


SCHEDULES = {
    "null": None,
    '"@daily"': "@daily",
    "6h": timedelta(hours=6),
    '"*/5 * * * *"': "*/5 * * * *",
}


@pytest.mark.parametrize("text", SCHEDULES)
def test_schedules_in_time(text: str) -> None:
    assert build(SIMPLE_ETL + f"schedule: {text}\n").schedule == SCHEDULES[text]


def test_schedules_on_assets() -> None:
    both = build(UNDATED_ETL + "schedule: {assets: [s3://pond/a, pond://b]}\n").timetable.asset_condition
    assert (type(both).__name__, {asset.uri for asset in both.objects}) == ("AssetAll", {"s3://pond/a", "pond://b/"})
    either = build(UNDATED_ETL + "schedule: {any: [s3://pond/a, pond://b]}\n").timetable.asset_condition
    assert type(either).__name__ == "AssetAny"


def test_a_registry_change_is_watched() -> None:
    dag = build(DEPLOYMENT.replace(CANARY, ""))
    (asset,) = dag.timetable.asset_condition.objects
    assert isinstance(asset, Asset)
    assert len(asset.watchers) == 1


def test_a_matrix_is_a_task_a_combination_and_the_best_goes_on() -> None:
    dag = build(TRAINING)
    runs = [task for task in dag.tasks if task.task_id.startswith("train.")]
    assert {task.task_id: task.downstream_task_ids for task in runs} == {
        f"train.alpha-{alpha}_depth-{depth}": {"select"} for alpha in (0.1, 0.5, 1.0) for depth in (2, 4)
    }
    assert [task.task_display_name for task in runs][:2] == ["alpha=0.1, depth=2", "alpha=0.1, depth=4"]
    assert dag.get_task("select").downstream_task_ids == {"register"}
    assert {asset.uri for task in runs for asset in task.inlets} == {"s3://pond/orders"}


def test_combinations_that_look_alike_keep_apart() -> None:
    found = combinations({"text": ("a b", "a-b", "a_b")})
    assert list(found) == ["text-a_b", "text-a-b", "text-a_b_"]
    assert [combination["text"] for combination in found.values()] == ["a b", "a-b", "a_b"]


def test_a_single_training() -> None:
    text = TRAINING.replace("matrix: {alpha: [0.1, 0.5, 1.0], depth: [2, 4]}\nselect: {metric: rmse, best: min}\n", "")
    assert arrows(build(text)) == {"train": {"register"}, "register": set()}


CANARY = DEPLOYMENT[DEPLOYMENT.index("rollout:") :]


ACTIONS = {"rollback", "scale", "teardown"}


def test_a_deployment_goes_through_its_gate() -> None:
    names = ("turn", "gate", "approval", "preflight", "deploy", "promote")
    for dag in (build(DEPLOYMENT.replace(CANARY, "")), build(DEPLOYMENT)):
        assert [task.task_id for task in dag.topological_sort() if task.task_id in names] == list(names)
        assert {task.task_id for task in dag.tasks} - set(names) == ACTIONS


def test_on_this_machine_a_run_is_for_what_its_param_says() -> None:
    made_for_its_param("Local")


@pytest.mark.usefixtures("kubernetes")
def test_on_kubernetes_a_run_is_for_what_its_param_says() -> None:
    made_for_its_param("Seldon")


def made_for_its_param(kind: str) -> None:
    dag = build(DEPLOYMENT)
    assert dag.params["action"] == "deploy"
    made = {name: type(dag.get_task(name)).__name__ for name in ("deploy", *sorted(ACTIONS))}
    assert made == {name: f"{kind}{name.title()}Operator" for name in made}
    # What a run is not for costs no worker.
    assert all(dag.get_task(name).start_from_trigger for name in ("turn", *ACTIONS))


@pytest.mark.usefixtures("kubernetes")
def test_on_kubernetes_a_rollout_costs_no_worker() -> None:
    workers = {task.task_id for task in build(DEPLOYMENT).tasks if not task.start_from_trigger}
    assert workers - {"preflight"} == {"approval", "promote"}


@pytest.mark.usefixtures("kubernetes")
def test_a_pause_is_an_approval_between_two_tasks_of_one_rollout() -> None:
    dag = build(DEPLOYMENT.replace("interval: 10m", "interval: 10m\n  pause: {after: 25, users: [ann]}"))
    assert {"deploy": {"approve_step"}, "approve_step": {"deploy_on"}, "deploy_on": {"promote"}}.items() <= (
        arrows(dag).items()
    )
    assert dag.get_task("deploy_on").start_trigger_args.trigger_kwargs["plan"]["resumes"] == "deploy"
    asked = dag.get_task("approve_step")
    assert (asked.resumes, asked.defaults, asked.assigned_users) == (
        "deploy", ["Reject"], [{"id": "ann", "name": "ann"}],
    )  # fmt: skip


@pytest.mark.usefixtures("kubernetes")
def test_an_ab_test_that_stays_promotes_nobody() -> None:
    text = DEPLOYMENT.replace(CANARY, "rollout: {strategy: ab, weight: 30}")
    assert "promote" not in arrows(build(text))
    query = "q{p='$predictor'}"
    winner = f'rollout: {{strategy: ab, weight: 30, winner: {{query: "{query}", best: max}}}}'
    assert "promote" in arrows(build(DEPLOYMENT.replace(CANARY, winner)))


@pytest.mark.usefixtures("kubernetes")
def test_the_param_that_says_what_a_run_is_for_is_ours() -> None:
    with pytest.raises(SpecError, match=r"params.action: that param says what a run of a deployment is for"):
        build(f"{DEPLOYMENT}params: {{action: {{type: string, default: x}}}}\n")


def test_approval_and_preflight_are_there_only_if_asked_for() -> None:
    text = DEPLOYMENT.replace(CANARY, "").replace("  approval: {users: [ann, bob], timeout: 1d}\n", "")
    dag = build(text.replace("preflight: true", "preflight: false"))
    assert {task.task_id for task in dag.tasks} - ACTIONS == {"turn", "gate", "deploy", "promote"}


@pytest.mark.parametrize(("default", "choice"), [("", "Reject"), (", default: approve", "Approve")])
def test_what_no_answer_means_is_for_the_spec_to_say(default: str, choice: str) -> None:
    approval = build(DEPLOYMENT.replace("timeout: 1d}", f"timeout: 1d{default}}}")).get_task("approval")
    assert approval.defaults == [choice]


def test_a_rollout_by_steps_runs_on_this_machine_too() -> None:
    dag = build(DEPLOYMENT)
    deploy = dag.get_task("deploy")
    assert type(deploy).__name__ == "LocalDeployOperator"
    assert (deploy.rollout.strategy, deploy.deferrable) == ("canary", True)
    assert "deploy" in dag.get_task("promote").upstream_task_ids


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ETL.replace("TOKEN: {secret: shop, key: token}, ", ""), "needs Kubernetes"),
    ],
)
def test_what_this_runtime_cannot_do_is_an_import_error_at_the_spec(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as raised:
        build(text)
    assert raised.value.filename == "spec.yaml"


def test_every_example_builds() -> None:
    for path in sorted((REPOSITORY / "dag_specs").glob("*/*.yaml")):
        if path.name != "defaults.yaml":
            for document in load_file(path, REPOSITORY / "dag_specs"):
                DagSerialization.to_dict(build_dag(document))


@pytest.mark.usefixtures("kubernetes")
def test_on_kubernetes_every_stage_is_a_pod_of_its_own() -> None:
    dag = build(ETL.replace("  - container: {image: example/clean:1, command: [clean]}\n", ""))
    pods = [task.executor_config["pod_override"] for task in dag.tasks]
    assert len(pods) == 7
    container = pods[0].spec.containers[0]
    assert (container.name, container.image) == ("base", "example/etl:1")
    assert container.resources.limits == container.resources.requests == {"cpu": "1", "memory": "2Gi"}
    assert {variable.name for variable in container.env} == {"LEVEL", "TOKEN"}
    assert container.env[1].value_from.secret_key_ref.to_dict() == {"key": "token", "name": "shop", "optional": None}
    assert pods[0].spec.service_account_name == "etl"
    assert pods[0].spec.node_selector == {"pool": "etl"}


def test_a_streaming_spec_is_brought_about_from_topics_to_sinks_and_taken_down_the_other_way() -> None:
    up = build(STREAMING.replace("state: absent\ndelete_topics: true\n", ""))
    assert arrows(up) == {
        "topics": {"sources.shop-cdc"},
        "sources.shop-cdc": {"app"},
        "app": {"sinks.shop-table"},
        "sinks.shop-table": set(),
    }
    assert up.max_active_runs == 1
    assert "**Keeps running:** topics **shop.orders**" in (up.doc_md or "")
    down = build(STREAMING)
    assert arrows(down) == {
        "sinks.shop-table": {"app"},
        "app": {"sources.shop-cdc"},
        "sources.shop-cdc": {"topics"},
        "topics": set(),
    }
    assert (down.get_task("topics").state, down.get_task("topics").delete) == ("absent", True)
    assert {down.get_task(name).state for name in ("sinks.shop-table", "app", "sources.shop-cdc")} == {"absent"}


def test_a_streaming_spec_may_be_any_part_of_it() -> None:
    head = "apiVersion: mlplatform/v1\nkind: streaming\nname: part\n"
    assert arrows(build(head + "topics: [{name: a}]\n")) == {"topics": set()}
    assert arrows(build(head + "app: {image: x}\nstate: paused\n")) == {"app": set()}


def test_connectors_of_a_spec_never_share_a_task() -> None:
    names = ["a b", "a_b", "a.b", "a:b", "ä" * 249]
    sinks = json.dumps([{"name": name, "config": {"connector.class": "X"}} for name in names])
    found = build(f"apiVersion: mlplatform/v1\nkind: streaming\nname: part\nsinks: {sinks}\n")
    by_name = {task.name: task.task_id for task in found.tasks}
    assert by_name.pop("ä" * 249).startswith("sinks.____")
    assert by_name == {
        "a b": "sinks.a_b-c8687a08",
        "a_b": "sinks.a_b",
        "a.b": "sinks.a.b",
        "a:b": "sinks.a_b-6783a31e",
    }
