"""The wine specs in a real Airflow: data starts trainings, the registry starts deployments, the better is served."""

from __future__ import annotations

import re
import shutil

import httpx
import pytest

from tests.airflow.conftest import WINE, Platform


@pytest.fixture(scope="module", autouse=True)
def specs(platform: Platform) -> None:
    """The wine specs, with two trainings instead of six, which at first see six of the thirteen measurements."""
    for name in ("defaults", "etl", "deployment"):
        platform.write_spec(f"wine/{name}.yaml", (WINE / f"{name}.yaml").read_text("utf-8"))
    training = (WINE / "training.yaml").read_text("utf-8")
    training = training.replace("default: 13", "default: 6").replace(
        "[0.001, 0.01, 0.1, 1.0, 10.0, 100.0]", "[0.01, 1.0]"
    )
    shutil.copytree(WINE / "project", platform.stack.specs / "wine" / "project")
    platform.write_spec("wine/training.yaml", training)
    wanted = {"wine-etl", "wine-training", "wine-deployment"}
    platform.stack.wait_until("the wine DAGs are there", lambda: wanted <= platform.api.dag_ids())
    assert platform.api.import_errors() == []


def served_version(platform: Platform) -> str:
    answer = httpx.post(
        f"{platform.stack.serving_url}/wine/invocations", json={"dataframe_records": [WINE_SAMPLE]}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 1
    return answer.headers["x-mlplatform-model-version"]


WINE_SAMPLE = {
    "alcohol": 13.2, "malic_acid": 1.78, "ash": 2.14, "alcalinity_of_ash": 11.2, "magnesium": 100.0,
    "total_phenols": 2.65, "flavanoids": 2.76, "nonflavanoid_phenols": 0.26, "proanthocyanins": 1.28,
    "color_intensity": 4.38, "hue": 1.05, "dilution": 3.4, "proline": 1050.0,
}  # fmt: skip


def test_new_data_ends_in_a_served_model(platform: Platform) -> None:
    etl = platform.run_number("wine-etl", 1)
    assert etl.state == "success", platform.explain(etl)
    loaded = platform.api.xcom(etl, "load")
    assert loaded["rows"] == 178

    training = platform.run_number("wine-training", 1)
    assert training.state == "success", platform.explain(training)
    assert training.run_type == "asset_triggered"

    deployment = platform.run_number("wine-deployment", 1)
    assert deployment.state == "success", platform.explain(deployment)
    assert deployment.run_type == "asset_triggered"
    assert served_version(platform) == "1"


def test_the_asset_event_carries_what_was_loaded(platform: Platform) -> None:
    (event,) = [
        event for event in platform.api.get("/assets/events")["asset_events"] if event["source_dag_id"] == "wine-etl"
    ]
    assert event["uri"].rstrip("/") == "pond://wine"
    assert event["extra"]["rows"] == 178
    assert event["extra"]["uri"].endswith(".parquet")
    assert {"bytes", "schema_hash"} <= set(event["extra"])


def test_the_model_version_tells_where_it_comes_from(platform: Platform) -> None:
    answer = httpx.get(
        f"{platform.stack.mlflow_url}/api/2.0/mlflow/model-versions/get",
        params={"name": "wine", "version": "1"},
        timeout=30,
    )
    tags = {tag["key"]: tag["value"] for tag in answer.json()["model_version"]["tags"]}
    assert tags["mlplatform.data.asset"].rstrip("/") == "pond://wine"
    assert tags["mlplatform.data.uri"].endswith(".parquet")
    assert tags["mlplatform.airflow.dag_id"] == "wine-training"
    assert tags["mlplatform.code_version"]


def test_a_better_model_is_promoted_and_served_by_itself(platform: Platform) -> None:
    platform.api.trigger("wine-training", {"features": 13})
    deployment = platform.run_number("wine-deployment", 2)
    assert deployment.state == "success", platform.explain(deployment)
    assert platform.states(deployment)["promote"] == {"success"}
    assert served_version(platform) == "2"


def skipped(*tasks: str) -> dict[str, set[str]]:
    """What a deployment has skipped, beside what the run was not for."""
    return {task: {"skipped"} for task in (*tasks, "rollback", "scale", "teardown")}


def test_a_worse_model_is_not(platform: Platform) -> None:
    platform.api.trigger("wine-training", {"features": 1})
    deployment = platform.run_number("wine-deployment", 3)
    assert platform.states(deployment) == {"turn": {"success"}} | skipped("gate", "preflight", "deploy", "promote")
    verdict = platform.api.xcom(deployment, "gate")
    assert verdict["outcome"] == "refused"
    assert any("log_loss" in reason["text"] for reason in verdict["reasons"] if not reason["passed"])
    assert served_version(platform) == "2"


def test_the_code_tab_shows_the_yaml_and_the_page_its_description(platform: Platform) -> None:
    assert platform.source("wine-etl") == (WINE / "etl.yaml").read_text("utf-8")
    details = platform.dag("wine-etl")
    assert details["description"] == "Nightly measurements of both laboratories into the data pond"
    assert "pond://wine" in details["doc_md"]
    assert details["owners"] == ["wine-team"]


def test_a_broken_spec_is_an_import_error_with_its_line_and_costs_no_other_one(platform: Platform) -> None:
    path = platform.write_spec("broken.yaml", "apiVersion: mlplatform/v1\nkind: etl\nname: broken\nlod: {}\n")
    (error,) = platform.stack.wait_until("the import error shows", platform.api.import_errors)
    assert 'broken.yaml:4:1 lod: unknown key; did you mean "load"?' in error
    assert "wine-etl" in platform.api.dag_ids()

    path.write_text(
        "apiVersion: mlplatform/v1\nkind: etl\nname: mended\nextract: {files: {uri: pond://raw/wine/*.csv}}\n"
        "load: {uri: pond://mended.parquet}\n"
    )
    platform.stack.wait_until("the mended spec is a DAG", lambda: "mended" in platform.api.dag_ids())
    platform.stack.wait_until("the import error has gone", lambda: not platform.api.import_errors())


APPROVED = """\
apiVersion: mlplatform/v1
kind: deployment
name: wine-approved
model: {name: wine, champion: approved}
gate: {approval: {users: [admin], timeout: 1h}}
preflight: false
serving: {name: wine-approved}
"""


def decide(platform: Platform, number: int, choice: str) -> dict[str, set[str]]:
    """Wait until a run asks for approval, answer, and return how its tasks ended."""
    run = platform.stack.wait_until(
        "the run is there", lambda: next(iter(platform.api.runs("wine-approved")[number - 1 : number]), None)
    )
    asked = f"/dags/wine-approved/dagRuns/{run.run_id}/taskInstances/approval/-1/hitlDetails"

    # Airflow fails a task whose answer comes before the scheduler has heard that it waits; people are slower.
    heard = re.compile(rf"Received executor event.*task_id='approval', run_id='{re.escape(run.run_id)}'")
    log = platform.stack.processes.log("scheduler")
    platform.stack.wait_until("the scheduler has heard of the question", lambda: heard.search(log.read_text("utf-8")))
    question = platform.api.get(asked)
    assert question["subject"] == "Serve the new wine?"
    assert "wine version" in question["body"]
    assert [user["id"] for user in question["assigned_users"]] == ["admin"]
    platform.api.patch(asked, {"chosen_options": [choice]})
    return platform.states(platform.run_number("wine-approved", number))


def test_nothing_is_served_that_a_person_rejects(platform: Platform) -> None:
    platform.write_spec("wine/approved.yaml", APPROVED)
    platform.stack.wait_until("the DAG is there", lambda: "wine-approved" in platform.api.dag_ids())
    platform.api.trigger("wine-approved")
    states = decide(platform, 1, "Reject")
    done = {task: {"success"} for task in ("turn", "gate", "approval")}
    assert states == done | skipped("deploy", "promote")
    assert httpx.get(f"{platform.stack.serving_url}/wine-approved/ping", timeout=30).status_code == 404


def test_what_a_person_approves_is_served(platform: Platform) -> None:
    platform.api.trigger("wine-approved")
    done = {task: {"success"} for task in ("turn", "gate", "approval", "deploy", "promote")}
    assert decide(platform, 2, "Approve") == done | skipped()
    assert httpx.get(f"{platform.stack.serving_url}/wine-approved/ping", timeout=30).status_code == 200


def test_a_person_removes_an_endpoint_by_the_dags_param(platform: Platform) -> None:
    platform.api.trigger("wine-approved", {"action": "teardown"})
    run = platform.run_number("wine-approved", 3)
    assert run.state == "success", platform.explain(run)
    states = platform.states(run)
    assert {task for task, ends in states.items() if ends == {"success"}} == {"teardown"}
    assert set().union(*states.values()) == {"success", "skipped"}
    assert httpx.get(f"{platform.stack.serving_url}/wine-approved/ping", timeout=30).status_code == 404
