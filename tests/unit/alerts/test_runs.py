"""Runs that alerts start, in a database of Airflow's own making (SQLite; PostgreSQL: tests/services)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.settings import engine
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from sqlalchemy import delete, select

from airflow_mlplatform.alerts.account import Outcome
from airflow_mlplatform.alerts.runs import start_runs
from airflow_mlplatform.exceptions import ServiceUnavailable
from tests.unit.alerts.test_listener import LISTENING, ROLLED_BACK
from tests.unit.alerts.test_message import alert, message
from tests.unit.factory.dags import build, kubernetes

__all__ = ["kubernetes"]

DRIFTS = message(alert("ModelDrifts", model="shop"))
FAILS = message(alert("ModelFails", deployment_name="shop"))


@pytest.fixture(scope="module", autouse=True)
def _database() -> Iterator[None]:
    from airflow.models import import_all_models
    from airflow.models.base import Base
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.db import synchronize_log_template

    import_all_models()
    Base.metadata.create_all(engine)
    with create_session() as session:
        synchronize_log_template(session=session)
        session.add(DagBundleModel(name="specs"))
    yield
    Base.metadata.drop_all(engine)


@pytest.fixture(autouse=True)
def _dags(kubernetes: None) -> None:
    """The DAGs, parsed, without runs."""
    from airflow.dag_processing.collection import update_dag_parsing_results_in_db
    from airflow.serialization.serialized_objects import LazyDeserializedDAG

    dags = [LazyDeserializedDAG.from_dag(build(text)) for text in (LISTENING, ROLLED_BACK)]
    with create_session() as session:
        session.execute(delete(DagRun))
        update_dag_parsing_results_in_db("specs", None, dags, {}, None, set(), session)
    dag(is_paused=False)


def runs(**values: Any) -> list[str]:
    """The ids of all runs, after some of their values have been set."""
    with create_session() as session:
        found = list(session.scalars(select(DagRun).order_by(DagRun.id)))
        for run in found:
            for name, value in values.items():
                setattr(run, name, value)
        return [run.run_id for run in found]


def dag(**values: Any) -> None:
    with create_session() as session:
        for model in session.scalars(select(DagModel)):
            for name, value in values.items():
                setattr(model, name, value)


def whys(told: Any = DRIFTS, **options: Any) -> list[str]:
    return [outcome.why for outcome in start_runs(told, **options).outcomes]


def test_an_alert_starts_one_run_until_its_pause_is_over() -> None:
    assert start_runs(DRIFTS).outcomes == [Outcome("ModelDrifts", "shop-training", "alert__run__1")]
    assert whys() == ["alert__run__1 is queued"]
    ended = datetime.now(UTC)
    runs(state=DagRunState.FAILED, end_date=ended)
    assert "cooldown: 1d lasts" in whys(clock=lambda: ended + timedelta(hours=23))[0]
    assert whys(clock=lambda: ended + timedelta(hours=24)) == [""]
    assert runs() == ["alert__run__1", "alert__run__2"]


def test_of_two_entries_that_hear_the_same_the_least_patient_counts() -> None:
    start_runs(DRIFTS)
    ended = datetime.now(UTC)
    runs(state=DagRunState.SUCCESS, end_date=ended)
    both = message(alert("ModelDrifts", model="shop", severity="critical"))
    assert whys(both, clock=lambda: ended + timedelta(hours=7)) == [""]


def test_who_decides_at_the_same_moment_finds_the_run_of_the_other() -> None:
    moments = iter(range(10))

    def clock() -> datetime:
        """Between looking at the runs that are there and making one, somebody else makes it."""
        if next(moments) == 0:
            start_runs(DRIFTS)
        return datetime.now(UTC)

    assert whys(clock=clock) == ["alert__run__1 is queued"]
    assert runs() == ["alert__run__1"]


def test_who_never_gets_a_turn_is_to_send_it_again() -> None:
    def clock() -> datetime:
        """Each time somebody else makes a run, which is over at once."""
        start_runs(DRIFTS)
        runs(state=DagRunState.SUCCESS, end_date=datetime(2020, 1, 1, tzinfo=UTC))
        return datetime.now(UTC)

    with pytest.raises(ServiceUnavailable, match="send the alert again"):
        start_runs(DRIFTS, clock)


def test_a_rollback_waits_for_no_other_run_and_is_told_what_it_is_for() -> None:
    start_runs(DRIFTS)
    assert [outcome.run_id for outcome in start_runs(FAILS).outcomes] == ["alert__rollback__1"]
    with create_session() as session:
        (run,) = session.scalars(select(DagRun).where(DagRun.dag_id == "shop-deployment"))
    assert (run.conf["action"], run.conf["alert"]["labels"]["deployment_name"]) == ("rollback", "shop")
    assert run.logical_date == run.run_after


def test_nothing_is_rolled_back_where_a_run_cannot_be_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DAG_RUN_CONF_OVERRIDES_PARAMS", "False")
    assert "dag_run_conf_overrides_params is off" in whys(FAILS)[0]
    assert (whys(), runs()) == ([""], ["alert__run__1"])


@pytest.mark.parametrize(
    ("state", "why"),
    [({"is_paused": True}, "the DAG is paused"), ({"has_import_errors": True}, "its file cannot be loaded any more")],
)
def test_a_dag_that_is_paused_or_broken_starts_nothing(state: dict[str, bool], why: str) -> None:
    dag(**state)
    try:
        assert why in whys()[0]
    finally:
        dag(**dict.fromkeys(state, False))
    assert runs() == []


def test_a_dag_that_cannot_be_read_keeps_no_other_from_starting() -> None:
    from airflow.models.serialized_dag import SerializedDagModel

    with create_session() as session:
        broken = SerializedDagModel.get("shop-training", session=session)
        assert broken
        whole, broken._data = broken._data, {"__version": 3, "dag": {}}
    both = message(alert("ModelDrifts", model="shop"), alert("ModelFails", deployment_name="shop"))
    try:
        unread, rolled_back = start_runs(both).outcomes
    finally:
        with create_session() as session:
            session.get_one(SerializedDagModel, broken.id)._data = whole
    assert (unread.run_id, bool(unread.why)) == ("", True)
    assert rolled_back.run_id == "alert__rollback__1"


def test_no_run_is_made_that_would_have_no_tasks() -> None:
    assert whys(clock=lambda: datetime(2024, 12, 31, tzinfo=UTC)) == ["its start is 2025-01-01"]
    start_runs(DRIFTS)
    with create_session() as session:
        (run,) = session.scalars(select(DagRun))
        assert run.get_task_instances(session=session)


def test_what_nobody_listens_to_is_told() -> None:
    dag(is_stale=True)
    assert start_runs(DRIFTS).unheard == ["ModelDrifts"]
    dag(is_stale=False)
    told = start_runs(message(alert("ModelDrifts", model="other"), alert("Watchdog"), alert("X", status="resolved")))
    assert (told.firing, told.outcomes, told.unheard) == (2, [], ["ModelDrifts", "Watchdog"])
    assert str(told) == "'ModelDrifts': nobody listens; 'Watchdog': nobody listens"
