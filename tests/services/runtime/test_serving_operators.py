"""The operators of local serving, as far as they go without MLflow, and the trigger between their halves."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed, ServiceUnavailable, ServingFailed
from airflow_mlplatform.operators.local_deploy import LocalDeployOperator
from airflow_mlplatform.operators.preflight import PreflightOperator
from airflow_mlplatform.operators.served_model import find_version
from airflow_mlplatform.serving.state import Outcome as RolloutOutcome
from airflow_mlplatform.serving.state import Who
from airflow_mlplatform.specs.deployment import Rollout, Serving
from airflow_mlplatform.triggers.local_rollout import RolloutEnd
from airflow_mlplatform.triggers.local_serving import LocalServingTrigger, read_event
from tests.services.runtime.conftest import deploy, eventually, servers, wish

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlplatform.runtime.serving import LocalServing

MODEL = {"name": "wine", "version": 1}


@pytest.mark.parametrize(
    ("rollout", "deferred"),
    [(None, False), ({"strategy": "canary", "steps": [5, 100]}, True), ({"strategy": "ab"}, True)],
)
def test_only_rollouts_by_steps_wait_in_the_triggerer(rollout: dict[str, Any] | None, deferred: bool) -> None:
    operator = LocalDeployOperator(task_id="deploy", serving={"name": "wine"}, model=MODEL, rollout=rollout)
    assert operator.deferrable is deferred


def outcome(result: str, why: str = "", *, lasting: bool = True) -> dict[str, Any]:
    who = Who(id="x", attempt=1, dag_id="dag", run_id="run", task_id="deploy")
    ended = RolloutOutcome.model_validate(
        {
            "who": who, "result": result, "why": why, "lasting": lasting, "wish": "", "strategy": "canary",
            "model": "wine", "version": "2", "former_version": "1", "steps": ("25 %",), "at": datetime.now(UTC),
        }
    )  # fmt: skip
    return RolloutEnd(kind="outcome", outcome=ended).model_dump(mode="json")


def ended(event: dict[str, Any]) -> dict[str, Any]:
    operator = LocalDeployOperator(
        task_id="deploy", serving={"name": "wine"}, model=MODEL, rollout={"strategy": "canary", "steps": [25, 100]}
    )
    return operator.end_rollout({}, event)  # type: ignore[typeddict-item]


def test_how_a_rollout_ends_the_task() -> None:
    done = ended(outcome("done"))
    assert (done["version"], done["former_version"], done["steps"], done["result"]) == ("2", "1", ["25 %"], "done")
    with pytest.raises(AirflowSkipException, match="did not win"):
        ended(outcome("kept", "it did not win"))
    with pytest.raises(AirflowFailException, match="errors: 1 is above"):
        ended(outcome("aborted", "errors: 1 is above 0.1"))
    with pytest.raises(ServingFailed, match="was aborted"):
        ended(outcome("aborted", "the server died", lasting=False))
    with pytest.raises(ProcessFailed, match="a retry goes on"):
        ended(RolloutEnd(kind="lost", message="away; a retry goes on").model_dump(mode="json"))
    with pytest.raises(AirflowFailException, match="not one of LocalRolloutTrigger"):
        ended({"kind": "success"})


def test_a_bad_endpoint_is_told_when_the_dag_is_built() -> None:
    with pytest.raises(ConfigurationError, match=r"serving\.name"):
        LocalDeployOperator(task_id="deploy", serving={"name": "Not a label"}, model=MODEL)
    with pytest.raises(ConfigurationError, match=r"serving\.nmae"):
        LocalDeployOperator(task_id="deploy", serving={"name": "wine", "nmae": "x"}, model=MODEL)


def test_spec_models_are_taken_as_they_are() -> None:
    serving, rollout = Serving(name="wine"), Rollout()
    operator = LocalDeployOperator(task_id="deploy", serving=serving, model=MODEL, rollout=rollout)
    assert operator.serving is serving
    assert operator.rollout is rollout


def test_the_model_is_a_template_and_an_upstream() -> None:
    for operator in (PreflightOperator, LocalDeployOperator):
        assert "model" in operator.template_fields


@pytest.mark.parametrize(
    "model", [None, "models:/wine/1", {}, {"name": "wine"}, {"candidate": None, "promote": False}, 3]
)
def test_what_names_no_model_version(model: Any) -> None:
    class NoMlflow:
        def client(self) -> NoMlflow:
            return self

        def __enter__(self) -> NoMlflow:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    with pytest.raises(ConfigurationError, match="names no model version"):
        find_version(model, NoMlflow())  # type: ignore[arg-type]


def test_importing_the_operators_is_cheap() -> None:
    heavy = ("mlflow", "starlette", "uvicorn", "duckdb", "pyarrow", "pandas")
    code = (
        "import sys, airflow_mlplatform.operators.local_deploy, airflow_mlplatform.operators.preflight;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def trigger(serving: LocalServing, generation: int, seconds: float = 60) -> LocalServingTrigger:
    state_dir = str(serving.folder.path.parent)
    return LocalServingTrigger(state_dir, serving.address, "wine", generation, time.time() + seconds, 0.05)


async def fired(one: LocalServingTrigger) -> Any:
    return (await anext(one.run())).payload


def test_a_trigger_survives_serialization(serving: LocalServing) -> None:
    path, arguments = trigger(serving, 3).serialize()
    assert path == "airflow_mlplatform.triggers.local_serving.LocalServingTrigger"
    assert LocalServingTrigger(**arguments).serialize() == (path, arguments)


async def test_the_trigger_tells_success_and_failure(serving: LocalServing, tmp_path: Path) -> None:
    serving.ensure_front()
    outcome = read_event(await fired(trigger(serving, wish(serving, tmp_path, "1"))))
    assert outcome.result == "ready"
    assert outcome.model is not None
    assert outcome.model.version == "1"
    outcome = read_event(await fired(trigger(serving, wish(serving, tmp_path, "2", exit=1))))
    assert (outcome.result, outcome.lasting) == ("failed", True)


async def test_the_trigger_notices_that_the_front_has_died(serving: LocalServing, tmp_path: Path) -> None:
    assert read_event(await fired(trigger(serving, wish(serving, tmp_path, "1")))).result == "lost"


async def test_the_trigger_gives_up_at_its_deadline(serving: LocalServing, tmp_path: Path) -> None:
    serving.ensure_front()
    outcome = read_event(await fired(trigger(serving, wish(serving, tmp_path, "1", silent=True), seconds=0)))
    assert outcome.result == "lost"
    assert "nothing was decided in time" in outcome.message


@pytest.mark.parametrize(
    "event", [None, {}, {"status": "success"}, {"result": "fine"}, {"result": "ready", "more": 1}, "ready"]
)
def test_an_event_that_is_not_understood_is_a_failure(event: Any) -> None:
    with pytest.raises(ServingFailed, match="not understood"):
        read_event(event)


def test_a_lost_deployment_is_worth_a_retry() -> None:
    operator = LocalDeployOperator(
        task_id="deploy", serving={"name": "wine"}, model=MODEL, ready_timeout=timedelta(seconds=1)
    )
    with pytest.raises(ServiceUnavailable, match="a retry goes on"):
        operator.resume({}, {"result": "lost", "message": "the front has died"})  # type: ignore[typeddict-item]


def test_a_new_deployment_of_what_serves_starts_nothing(serving: LocalServing, tmp_path: Path) -> None:
    serving.ensure_front()
    assert deploy(serving, tmp_path, "1").result == "ready"
    before = servers(serving)
    assert deploy(serving, tmp_path, "1").result == "ready"
    assert eventually(lambda: servers(serving), "it serves") == before
