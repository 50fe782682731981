"""What the triggerer tells of rollouts and connectors."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from airflow_mlplatform.clients.kafka_connect_entities import ConnectorStatus, TaskStatus
from airflow_mlplatform.metrics import (
    CANDIDATE_PERCENT,
    CONNECTOR_FAILED_TASKS,
    CONNECTOR_STATE,
    ROLLOUT_STATE,
    ROLLOUT_STEP,
    ROLLOUTS,
)
from airflow_mlplatform.serving.state import STATE, Abort, Outcome, RolloutState, Who, written
from airflow_mlplatform.specs.deployment import Rollout
from airflow_mlplatform.triggers import connector_metrics, rollout_metrics
from airflow_mlplatform.triggers.seldon_cluster import SeldonAround
from tests.unit.recorded_metrics import Recorder, recording

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WHO = Who(id="1", attempt=1, dag_id="wine", run_id="r", task_id="deploy")
ABORT = Abort(why="it fails", at=NOW)


def live(step: int, weight: int, **more: Any) -> dict[str, Any]:
    """A resource whose rollout is at a step."""
    state = RolloutState(who=WHO, wish="w", strategy="canary", base="main", step=step, since=NOW, **more)
    predictors = [{"name": "main", "traffic": 100 - weight}, {"name": "candidate", "traffic": weight}]
    return {"metadata": {"annotations": {STATE: written(state)}}, "spec": {"predictors": predictors}}


def state(recorder: Recorder) -> list[str]:
    """The states that are told to be."""
    found = recorder.of(ROLLOUT_STATE)
    assert len(found) == 4
    return [key[2] for key, value in found.items() if value]


def test_a_rollout_is_followed() -> None:
    where = ("models", "wine")
    with recording() as recorder:
        rollout_metrics.report(*where, live(1, 25))
        assert state(recorder) == ["rolling"]
        assert (recorder.of(ROLLOUT_STEP)[where], recorder.of(CANDIDATE_PERCENT)[where]) == (2, 25)
        rollout_metrics.report(*where, live(1, 25, paused=True))
        assert state(recorder) == ["paused"]
        rollout_metrics.report(*where, live(1, 0, abort=ABORT))
        assert state(recorder) == ["going-back"]
        rollout_metrics.report(*where, {"metadata": {}, "spec": {"predictors": [{"name": "main", "traffic": 100}]}})
        assert state(recorder) == ["none"]
        assert (recorder.of(ROLLOUT_STEP)[where], recorder.of(CANDIDATE_PERCENT)[where]) == (0, 0)
        rollout_metrics.report(*where, None)
        assert state(recorder) == ["none"]


class Shown:
    """What is known of a resource, as :class:`~airflow_mlplatform.serving.view.View` tells it."""

    name = "wine"
    live: dict[str, Any] | None = None

    def took(self, resource: dict[str, Any]) -> None:
        self.live = resource

    async def changed(self, until: datetime | None) -> None:
        pass


class Deployments:
    """Those of a namespace."""

    namespace = "models"

    async def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        return manifest


async def test_it_is_told_whenever_something_is_applied_or_has_changed() -> None:
    view, cluster = Shown(), SimpleNamespace(seldon=Deployments())
    around = SeldonAround(cluster, view, Rollout(), "", "", None)  # type: ignore[arg-type]
    with recording() as recorder:
        await around.apply(live(0, 5))
        assert recorder.of(CANDIDATE_PERCENT) == {("models", "wine"): 5}
        view.took(live(1, 50))
        await around.changed(None)
    assert recorder.of(CANDIDATE_PERCENT) == {("models", "wine"): 50}


def test_its_end_is_counted() -> None:
    outcome = Outcome(who=WHO, result="aborted", wish="w", strategy="canary", at=NOW)
    with recording() as recorder:
        rollout_metrics.report_end("models", "wine", outcome)
    assert recorder.of(ROLLOUTS) == {("models", "wine", "deploy", "aborted"): 1}


def test_a_connector_is_in_one_state() -> None:
    running = ConnectorStatus("RUNNING", (TaskStatus(0, "RUNNING"), TaskStatus(1, "FAILED")))
    with recording() as recorder:
        connector_metrics.report("shop", running, None)
        assert recorder.of(CONNECTOR_STATE) == {("shop", "absent"): 0, ("shop", "RUNNING"): 1}
        assert recorder.of(CONNECTOR_FAILED_TASKS) == {("shop",): 1}
        connector_metrics.report("shop", None, running)
    assert recorder.of(CONNECTOR_STATE) == {("shop", "absent"): 1, ("shop", "RUNNING"): 0}
    assert recorder.of(CONNECTOR_FAILED_TASKS) == {("shop",): 0}
