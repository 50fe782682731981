"""`MlflowRunOperator` with the real `mlflow run` and a real server; its process is killed at every bad moment."""

from __future__ import annotations

import json
import os
import signal
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlplatform.clients.mlflow import Endpoint, MlflowClient, Run
from airflow_mlplatform.runtime.local import LocalProcess, ProcessFolder
from tests.services.operator_process import OperatorProcess
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.mlflow_server import MlflowServer

pytestmark = pytest.mark.slow

OPERATOR = "airflow_mlplatform.operators.mlflow_run:MlflowRunOperator"
MLPROJECT = """
name: demo
entry_points:
  main:
    parameters: {folder: path, word: {type: string, default: hello}}
    command: "python train.py {folder} {word}"
"""
# Only MLflow's environment variables and the standard library: the run continues wherever the test lets it.
TRAIN = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with (folder / "work").open("a") as work:
    print("started", os.environ["MLFLOW_RUN_ID"], file=work)
print("working", sys.argv[2])
while (folder / "hold").exists():
    time.sleep(0.05)
if (folder / "fail").exists():
    raise ValueError("bad luck")
with (folder / "work").open("a") as work:
    print("ended", os.environ["MLFLOW_RUN_ID"], file=work)
"""


class Task(OperatorProcess):
    """A task with its own project, experiment and state folder."""

    def __init__(self, folder: Path, server: MlflowServer) -> None:
        project = folder / "project"
        project.mkdir()
        (project / "MLproject").write_text(MLPROJECT)
        (project / "train.py").write_text(TRAIN)
        self.experiment = f"run {uuid.uuid4()}"
        self.client = MlflowClient(Endpoint(server.url))
        super().__init__(
            OPERATOR,
            {"uri": "project", "experiment": self.experiment, "parameters": {"folder": str(folder)}},
            folder,
            server.environment | {"AIRFLOW__MLPLATFORM__STATE_DIR": str(folder / "state"), "AIRFLOW_HOME": str(folder)},
        )

    @property
    def runs(self) -> tuple[Run, ...]:
        return self.client.search_runs(self.client.get_or_create_experiment(self.experiment))

    @property
    def only_run(self) -> Run:
        runs = self.runs
        assert len(runs) == 1, runs
        return runs[0]

    @property
    def work(self) -> list[str]:
        file = self.folder / "work"
        return file.read_text().splitlines() if file.exists() else []

    def hold(self) -> None:
        """Keep the project from ending."""
        (self.folder / "hold").touch()

    def release(self) -> None:
        """Let the project end."""
        (self.folder / "hold").unlink()

    def kill_task(self) -> None:
        """kill -9 of the process that runs `execute`."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def process_of(self, run: Run) -> LocalProcess:
        process = LocalProcess.attach(self.folder / "state" / "processes" / run.run_id)
        assert process is not None
        return process

    def kill_project(self, run: Run) -> None:
        """kill -9 of the project and of its shim, as when the machine goes down."""
        identity = ProcessFolder(self.folder / "state" / "processes" / run.run_id).identity
        assert identity is not None
        for member in [*identity.members()]:
            member.kill()
        os.kill(identity.pid, signal.SIGKILL)
        wait_for(lambda: not identity.alive)


@pytest.fixture
def task(tmp_path: Path, mlflow_server: MlflowServer) -> Iterator[Task]:
    task = Task(tmp_path, mlflow_server)
    yield task
    if task.process and task.process.poll() is None:
        task.kill_task()
    for folder in (tmp_path / "state" / "processes").glob("*"):
        LocalProcess(folder).stop(grace=0)


def tags(run: Run, prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in run.tags.items() if name.startswith(prefix)}


def test_a_run_that_ends_well(task: Task) -> None:
    result = task.run()
    run = task.only_run
    assert task.work == [f"started {run.run_id}", f"ended {run.run_id}"]
    assert (run.status, result["run_id"], result["model_uri"]) == ("FINISHED", run.run_id, None)
    assert result["run_url"] == json.loads((task.folder / "xcom-mlflow_run_url.json").read_text())
    assert "working hello" in task.output
    assert run.params == {"folder": str(task.folder)}
    airflow = tags(run, "mlplatform.airflow.")
    assert (airflow["dag_id"], airflow["run_id"], airflow["task_id"], airflow["try"]) == (
        "a_dag",
        "manual__1",
        "a_task",
        "1",
    )
    assert run.tags["mlplatform.code_version"] == result["code_version"]
    assert result["code_version"].startswith("sha256:")
    assert not list((task.folder / "state" / "processes").iterdir()), "nothing is left behind"


def test_killed_in_the_middle_the_second_try_attaches(task: Task) -> None:
    task.hold()
    task.start()
    wait_for(lambda: task.work, "for the project to start")
    task.kill_task()
    first = task.only_run
    assert first.active
    assert task.process_of(first).alive
    task.start()
    wait_for(lambda: "Continuing MLflow run" in task.output)
    task.release()
    assert task.process is not None
    assert task.process.wait() == 0
    run = task.only_run
    assert (run.run_id, run.status) == (first.run_id, "FINISHED")
    assert task.work == [f"started {run.run_id}", f"ended {run.run_id}"]
    assert run.tags["mlplatform.airflow.try"] == "2"


def test_killed_and_the_project_ends_meanwhile(task: Task) -> None:
    task.hold()
    task.start()
    wait_for(lambda: task.work, "for the project to start")
    task.kill_task()
    run = task.only_run
    process = task.process_of(run)
    task.release()
    wait_for(lambda: process.exit_code is not None)
    result = task.run()
    assert result["run_id"] == run.run_id
    assert task.work == [f"started {run.run_id}", f"ended {run.run_id}"]
    assert task.only_run.status == "FINISHED"


def test_task_and_project_killed_the_same_run_is_continued(task: Task) -> None:
    task.hold()
    task.start()
    wait_for(lambda: task.work, "for the project to start")
    task.kill_task()
    run = task.only_run
    task.kill_project(run)
    task.release()
    result = task.run()
    assert result["run_id"] == run.run_id
    assert task.work == [f"started {run.run_id}"] * 2 + [f"ended {run.run_id}"]
    assert task.only_run.status == "FINISHED"


def test_killed_after_the_run_was_made_and_before_the_project(task: Task) -> None:
    task.environment["AIRFLOW__MLPLATFORM__STATE_DIR"] = "/proc/nowhere"
    assert "error" in task.run()
    before = task.only_run
    assert before.active
    task.environment["AIRFLOW__MLPLATFORM__STATE_DIR"] = str(task.folder / "state")
    assert task.run()["run_id"] == before.run_id
    assert task.only_run.status == "FINISHED"


def test_killed_after_everything_was_done(task: Task) -> None:
    first = task.run()
    assert task.run() == first
    assert task.work == [f"started {first['run_id']}", f"ended {first['run_id']}"]


def test_clearing_a_finished_task_repeats_nothing(task: Task) -> None:
    first = task.run(try_number=1, max_tries=0)
    second = task.run(try_number=2, max_tries=1)
    assert second == first
    assert task.work == [f"started {first['run_id']}", f"ended {first['run_id']}"]


def test_clearing_a_finished_task_runs_code_that_has_changed(task: Task) -> None:
    first = task.run(try_number=1, max_tries=0)
    with (task.folder / "project" / "train.py").open("a") as code:
        code.write("print('improved')\n")
    second = task.run(try_number=2, max_tries=1)
    assert first["run_id"] != second["run_id"]
    assert len(task.runs) == 2


def test_a_failed_project_closes_its_run_and_a_retry_makes_another(task: Task) -> None:
    (task.folder / "fail").touch()
    failure = task.run()
    assert failure["kind"] == "ProcessFailed", "Airflow retries it"
    assert "ValueError: bad luck" in failure["error"]
    run = task.only_run
    assert (run.status, run.tags["mlplatform.reason"]) == ("FAILED", "ValueError: bad luck")
    (task.folder / "fail").unlink()
    result = task.run()
    assert result["run_id"] != run.run_id
    assert sorted(run.status for run in task.runs) == ["FAILED", "FINISHED"]


def test_failed_while_nobody_watched(task: Task) -> None:
    (task.folder / "fail").touch()
    task.hold()
    task.start()
    wait_for(lambda: task.work, "for the project to start")
    task.kill_task()
    task.release()
    process = task.process_of(task.only_run)
    wait_for(lambda: process.exit_code is not None)
    # MLflow closes the run itself when its project fails; the next try starts afresh.
    (task.folder / "fail").unlink()
    assert "error" not in task.run()
    assert sorted(run.status for run in task.runs) == ["FAILED", "FINISHED"]


def test_other_parameters_take_the_place_of_a_run_that_still_works(task: Task) -> None:
    task.hold()
    task.start()
    wait_for(lambda: task.work, "for the project to start")
    task.kill_task()
    former = task.only_run
    process = task.process_of(former)
    task.arguments["parameters"]["word"] = "goodbye"
    task.start()
    wait_for(lambda: not process.alive, "for the former project to be stopped")
    task.release()
    assert task.process is not None
    assert task.process.wait() == 0
    result = json.loads((task.folder / "result.json").read_text())
    assert result["run_id"] != former.run_id
    assert {run.run_id: run.status for run in task.runs} == {former.run_id: "KILLED", result["run_id"]: "FINISHED"}


def test_a_killed_task_stops_its_project_and_closes_its_run(task: Task) -> None:
    task.hold()
    task.start()
    wait_for(lambda: task.work, "for the project to start")
    process = task.process_of(task.only_run)
    assert task.process is not None
    task.process.send_signal(signal.SIGTERM)
    task.process.wait()
    assert not process.alive
    run = task.only_run
    assert (run.status, run.tags["mlplatform.reason"]) == ("KILLED", "the Airflow task was killed")
    failure = json.loads((task.folder / "result.json").read_text())
    assert "was killed" in failure["error"]
    assert f"ended {run.run_id}" not in task.work
    task.release()
    assert task.run()["run_id"] == run.run_id
    assert task.only_run.status == "FINISHED"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"entry_point": "mian"}, "no entry point 'mian'"),
        ({"uri": "nowhere"}, "no MLflow project"),
        ({"secret": {"secret": "a"}}, "secret"),
    ],
)
def test_mistakes_are_not_retried_and_make_no_run(task: Task, changes: dict[str, Any], words: str) -> None:
    task.arguments |= changes
    failure = task.run()
    assert (failure["kind"], words in failure["error"]) == ("AirflowFailException", True), failure
    assert task.runs == ()


def test_mlflow_away_is_retried(task: Task) -> None:
    task.environment["AIRFLOW_CONN_MLFLOW_DEFAULT"] = '{"conn_type": "mlflow", "host": "http://127.0.0.1:1"}'
    assert task.run()["kind"] == "ServiceUnavailable"


def test_secrets_reach_the_project_and_nothing_else(task: Task) -> None:
    task.environment["AIRFLOW_CONN_BANK"] = '{"conn_type": "http", "password": "s3cret-t0ken"}'
    task.arguments["env"] = {"TOKEN": {"connection": "bank"}, "PLAIN": "p"}
    train = task.folder / "project" / "train.py"
    train.write_text(
        "import os; assert os.environ['TOKEN'] == 's3cret-t0ken' and 'AIRFLOW_CONN_BANK' not in os.environ\n" + TRAIN
    )
    task.hold()
    task.start()
    wait_for(lambda: task.work, "for the project to start")
    identity = ProcessFolder(task.folder / "state" / "processes" / task.only_run.run_id).identity
    assert identity is not None
    assert all("s3cret-t0ken" not in " ".join(member.cmdline()) for member in identity.members())
    written = [file for file in task.folder.rglob("*") if file.is_file() and file != train]
    assert all(b"s3cret-t0ken" not in file.read_bytes() for file in written)
    task.release()
    assert task.process is not None
    assert task.process.wait() == 0
    assert "s3cret-t0ken" not in (task.folder / "result.json").read_text()
