"""The pause of a rollout in Airflow itself: answers, time-outs, and what ends it before."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.services.airflow_home import AirflowHome, migrated_database, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["migrated_database"]

pytestmark = [pytest.mark.slow, pytest.mark.long]

PATIENCE = 180.0
TRIGGERS = """
from __future__ import annotations

import asyncio
from pathlib import Path

from airflow.triggers.base import BaseTrigger

from airflow_mlplatform.triggers.step_approval import Asked, answer_or
from airflow_mlplatform.triggers.task import TaskEnding

FOLDER = Path(__file__).parent


class WatchTrigger(BaseTrigger):
    '''A candidate that turns bad once there is a file.'''

    def __init__(self, asked, bad):
        super().__init__()
        self.asked, self.bad = asked, bad

    def serialize(self):
        return "watching.WatchTrigger", {"asked": self.asked, "bad": self.bad}

    async def run(self):
        yield await answer_or(Asked.model_validate(self.asked), self.watch())

    async def watch(self):
        self.log.info("watching")
        while not (FOLDER / self.bad).exists():
            await asyncio.sleep(0.2)
        return TaskEnding(ending="failed", message="the analysis failed at 25 %")
"""
DAGS = """
from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG
from watching import WatchTrigger

from airflow_mlplatform.operators.step_approval import StepApprovalOperator


class Asking(StepApprovalOperator):
    def watcher(self, context, asked):
        return WatchTrigger(asked, f"{self.task_id}.bad")


with DAG("paused", schedule=None, default_args={"retries": 2, "retry_delay": timedelta(seconds=1)}):
    asked = {"subject": "Go on?", "assigned_users": [{"id": "admin", "name": "admin"}]}
    Asking(task_id="answered", response_timeout=timedelta(hours=1), **asked)
    Asking(task_id="breached", response_timeout=timedelta(hours=1), **asked)
    Asking(task_id="ignored", response_timeout=timedelta(seconds=3), **asked)
    theirs = {"subject": "Go on?", "assigned_users": [{"id": "ann", "name": "ann"}]}
    Asking(task_id="private", response_timeout=timedelta(seconds=20), **theirs)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Iterator[AirflowHome]:
    python = os.environ.get("MLPLATFORM_AIRFLOW_PYTHON", sys.executable)
    airflow = AirflowHome(tmp_path_factory.mktemp("airflow"), {}, python).migrate(migrated_database)
    (airflow.folder / "watching.py").write_text(TRIGGERS)
    (airflow.dags / "paused.py").write_text(DAGS)
    try:
        airflow.start()
        airflow.wait_for_dag("paused")
        yield airflow
    finally:
        airflow.kill()


def question(run: str, task: str) -> str:
    return f"/dags/paused/dagRuns/{quote(run, safe='')}/taskInstances/{task}/-1/hitlDetails"


def answer(home: AirflowHome, run: str, task: str, choice: str) -> int:
    return home.api.patch(question(run, task), json={"chosen_options": [choice]}).status_code


def test_a_pause_ends_by_an_answer_by_its_time_or_by_the_analysis(home: AirflowHome) -> None:
    run = home.trigger("paused")
    for task in ("answered", "breached"):
        wait_for(lambda task=task: "watching" in home.task_log("paused", run, task), f"{task} to be watched", PATIENCE)  # type: ignore[misc]
    assert home.states("paused", run)["answered"] == "deferred"
    assert home.get(question(run, "answered"))["options"] == ["Approve", "Reject"]
    assert answer(home, run, "answered", "Approve") == 200
    wait_for(lambda: home.states("paused", run)["answered"] == "success", "the answer to end the task", PATIENCE)
    assert home.xcom("paused", run, "answered")["chosen_options"] == ["Approve"]

    asks = [user["id"] for user in home.get(question(run, "private"))["assigned_users"]]
    assert asks == ["ann"]
    (home.folder / "breached.bad").touch()
    wait_for(lambda: home.states("paused", run)["breached"] == "failed", "the analysis to end the task", PATIENCE)
    told = home.task_log("paused", run, "breached")
    assert "the analysis failed at 25 %" in told
    assert "clear its first task" in told
    assert home.tasks("paused", run)["breached"]["try_number"] == 1

    wait_for(lambda: home.states("paused", run)["ignored"] == "success", "the time to end the task", PATIENCE)
    assert home.xcom("paused", run, "ignored")["chosen_options"] == ["Reject"]
    assert home.wait_for_run("paused", run, PATIENCE) == "failed"


def test_a_triggerer_that_dies_during_a_pause_costs_no_answer(home: AirflowHome) -> None:
    run = home.trigger("paused")
    wait_for(lambda: "watching" in home.task_log("paused", run, "answered"), "it to be watched", PATIENCE)
    home.kill("triggerer")
    home.start("triggerer")
    (home.folder / "answered.bad").touch()
    wait_for(lambda: home.states("paused", run)["answered"] == "failed", "another triggerer to watch on", PATIENCE)
    (home.folder / "answered.bad").unlink()
