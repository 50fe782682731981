"""The registry watcher, the sensor and the promotion in Airflow's own scheduler, triggerer and workers."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlplatform.clients.mlflow import Endpoint, MlflowClient
from tests.services.airflow_home import AirflowHome, migrated_database, wait_for
from tests.services.mlflow_server import MlflowServer, mlflow_server
from tests.services.test_promotion_registry import bearer, train

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["migrated_database", "mlflow_server"]

pytestmark = pytest.mark.slow

DAGS = """
from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_mlplatform.assets import registry_asset
from airflow_mlplatform.operators.promote_model import PromoteModelOperator
from airflow_mlplatform.sensors.model_promotion import ModelPromotionSensor

STRICT = {"metrics": [{"name": "rmse", "max": 0.1}]}

with DAG("watch", schedule=[registry_asset("watched", "challenger")], catchup=False, max_active_runs=8):

    @task
    def changes(triggering_asset_events=None):
        return [event.extra["payload"] for events in triggering_asset_events.values() for event in events]

    changes()

def told_of(alias):
    with DAG(f"pair-{alias}", schedule=[registry_asset("pair", alias)], catchup=False):

        @task
        def changes(triggering_asset_events=None):
            return [event.extra["payload"] for events in triggering_asset_events.values() for event in events]

        changes()


told_of("challenger")
told_of("staging")

with DAG("loop", schedule=None, params={"model": "", "limit": 0.9}):
    gate = ModelPromotionSensor(
        task_id="gate",
        model={"name": "{{ params.model }}"},
        gate={"metrics": [{"name": "rmse", "max": "{{ params.limit }}", "beats_champion_by": 0.01, "best": "min"}]},
        timeout=300,
    )
    PromoteModelOperator(task_id="promote", verdict=gate.output)

with DAG("endings", schedule=None, default_args={"retries": 2, "retry_delay": timedelta(seconds=1)}):
    refused = {"model": {"name": "refused"}, "gate": STRICT}

    @task(trigger_rule="all_done")
    def after_all(ti=None):
        return ti.xcom_pull("skips")["outcome"]

    skips = ModelPromotionSensor(task_id="skips", on_refusal="skip", **refused)

    @task
    def after(verdict):
        return verdict

    after(skips.output)
    skips >> after_all()
    ModelPromotionSensor(task_id="fails", on_refusal="fail", **refused)
    ModelPromotionSensor(task_id="times_out", timeout=3, **refused)
    ModelPromotionSensor(task_id="gives_up_softly", timeout=3, soft_fail=True, **refused)
    ModelPromotionSensor(task_id="lost", mlflow_conn_id="nowhere", **refused)
    ModelPromotionSensor(task_id="pokes", model={"name": "refused"}, deferrable=False, poke_interval=1)
    ModelPromotionSensor.partial(task_id="mapped").expand(model=[{"name": "refused"}, {"name": "other"}])

    @task
    def who():
        return "refused"

    ModelPromotionSensor(task_id="told", model={"name": who()})
"""


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Path,
    mlflow_server: MlflowServer,
) -> Iterator[AirflowHome]:
    environment = {**mlflow_server.environment, "AIRFLOW__MLPLATFORM__REGISTRY_POLL_INTERVAL": "1"}
    python = os.environ.get("MLPLATFORM_AIRFLOW_PYTHON", sys.executable)
    airflow = AirflowHome(tmp_path_factory.mktemp("airflow"), environment, python).migrate(migrated_database)
    (airflow.dags / "promotion.py").write_text(DAGS)
    try:
        airflow.start()
        airflow.wait_for_dag("endings")
        yield airflow
    finally:
        airflow.kill()


@pytest.fixture
def client(mlflow_server: MlflowServer) -> MlflowClient:
    return MlflowClient(Endpoint(mlflow_server.url))


def announced(home: AirflowHome) -> list[dict[str, Any]]:
    """What the runs of the watching DAG were told, in order; waits until they have ended."""
    runs = home.runs("watch")
    for run in runs:
        assert home.wait_for_run("watch", run["dag_run_id"]) == "success"
    return [change for run in runs for change in home.xcom("watch", run["dag_run_id"], "changes")]


def cursor(home: AirflowHome) -> str:
    """What the watcher has noted as announced, from Airflow's database."""
    import sqlite3

    with sqlite3.connect(f"file:{home.folder}/airflow.db?mode=ro", uri=True) as database:
        rows = database.execute("select value from asset_state_store").fetchall()
    return " ".join(str(value) for (value,) in rows)


def test_each_move_of_the_alias_starts_one_run_whatever_happens_to_the_triggerer(
    home: AirflowHome, client: MlflowClient
) -> None:
    train(client, "watched", "challenger")
    wait_for(lambda: '"version": 1' in cursor(home), "the first change to be noted")
    home.kill("triggerer")
    train(client, "watched", "challenger")
    home.start("triggerer")
    wait_for(lambda: '"version": 2' in cursor(home), "the change made while it was down to be noted")
    home.stop("triggerer")
    home.start("triggerer")
    train(client, "watched", "challenger")
    wait_for(lambda: '"version": 3' in cursor(home), "the change after a restart to be noted")
    changes = announced(home)
    assert [(change["version"], change["former"]) for change in changes] == [(1, None), (2, 1), (3, 2)]
    assert changes[0]["model"] == "watched"
    assert changes[0]["alias"] == "challenger"
    assert changes[0]["run_id"]


def test_two_aliases_of_a_model_start_each_its_own_dag(home: AirflowHome, client: MlflowClient) -> None:
    """One watcher looks at both, with one request."""
    train(client, "pair", "challenger")
    train(client, "pair", "staging")
    for alias, version in (("challenger", 1), ("staging", 2)):
        (run,) = wait_for(lambda alias=alias: home.runs(f"pair-{alias}"), f"{alias} to start its DAG")  # type: ignore[misc]
        assert home.wait_for_run(f"pair-{alias}", run["dag_run_id"]) == "success"
        (change,) = home.xcom(f"pair-{alias}", run["dag_run_id"], "changes")
        assert (change["alias"], change["version"], change["former"]) == (alias, version, None)
    client.set_alias("pair", "staging", 1)
    wait_for(lambda: len(home.runs("pair-staging")) == 2, "the move of one alias to start its DAG")
    assert len(home.runs("pair-challenger")) == 1


def test_a_better_candidate_is_promoted_a_worse_one_is_waited_out(home: AirflowHome, client: MlflowClient) -> None:
    train(client, "loop", "champion", rmse=0.5)
    train(client, "loop", "challenger", rmse=0.495)
    run = home.trigger("loop", {"model": "loop", "limit": 0.9})
    wait_for(lambda: client.get_model_version("loop", 2).tags.get("mlplatform.verdict"), "the first verdict")
    waiting = home.tasks("loop", run)["gate"]
    assert (waiting["state"], waiting["pid"]) == ("deferred", None)  # no worker has seen the task
    train(client, "loop", "challenger", rmse=0.4)
    assert home.wait_for_run("loop", run) == "success"
    assert home.xcom("loop", run, "gate")["candidate"]["version"] == 3
    assert home.xcom("loop", run, "promote") == {
        "name": "loop", "version": 3, "model_uri": "models:/loop/3", "former": 1,
    }  # fmt: skip
    assert (bearer(client, "loop"), bearer(client, "loop", "previous-champion")) == (3, 1)
    # Log, XCom and the versions themselves say the same.
    assert all(reason["passed"] for reason in home.xcom("loop", run, "gate")["reasons"])
    verdicts = [client.get_model_version("loop", number).tags["mlplatform.verdict"] for number in (2, 3)]
    assert verdicts == ["refused", "promote"]
    told = client.get_model_version("loop", 2).tags["mlplatform.verdict.reasons"]
    assert "beats the champion's 0.5 by 0.005 (asked: a lead of at least 0.01)" in told
    log = home.task_log("loop", run, "gate")
    assert "rmse 0.495: is at most 0.9, beats the champion's 0.5 by 0.005 (asked: a lead of at least 0.01)" in log
    assert log.count("loop version 2: refused") == 1


def test_every_ending(home: AirflowHome, client: MlflowClient) -> None:
    train(client, "refused", "challenger", rmse=0.5)
    train(client, "other", "challenger", rmse=0.5)
    run = home.trigger("endings")
    home.wait_for_run("endings", run, 180)
    assert home.states("endings", run) == {
        "skips": "skipped", "after": "skipped", "after_all": "success", "fails": "failed", "times_out": "failed",
        "gives_up_softly": "skipped", "lost": "failed", "pokes": "success", "mapped[0]": "success",
        "mapped[1]": "success", "who": "success", "told": "success",
    }  # fmt: skip
    assert home.xcom("endings", run, "after_all") == "refused"
    (reason,) = home.xcom("endings", run, "skips")["reasons"]
    assert (reason["passed"], "rmse 0.5: is above 0.1" in reason["text"]) == (False, True)
    for task, words in (
        ("skips", "rmse 0.5: is above 0.1"),
        ("fails", "rmse 0.5: is above 0.1"),
        ("times_out", "worth promoting before the timeout"),
        ("lost", "nowhere"),
    ):
        assert words in home.task_log("endings", run, task)
        assert home.tasks("endings", run)[task]["try_number"] == 1
    assert home.xcom("endings", run, "mapped", map_index=1)["candidate"]["name"] == "other"
    assert home.xcom("endings", run, "told", "model_version_url").endswith("/models/refused/versions/1")
