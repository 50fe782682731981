"""When a connector has settled, is restarted, or has failed for good."""

from __future__ import annotations

from airflow_mlplatform.clients.kafka_connect_entities import Connector, ConnectorState, ConnectorStatus, TaskStatus
from airflow_mlplatform.connectors.progress import Progress


def connector(state: str, *tasks: str) -> Connector:
    return Connector("c", {}, ConnectorStatus(state, tuple(TaskStatus(n, one) for n, one in enumerate(tasks))))


RUNNING = connector("RUNNING", "RUNNING", "RUNNING")
FAILED = connector("RUNNING", "RUNNING", "FAILED")


def judged(progress: Progress, *looks: tuple[float, Connector | None]) -> list[str]:
    return [progress.judge(look, now) for now, look in looks]


def test_success_has_to_last() -> None:
    progress = Progress("running", settle=10, restarts=0)
    looks = [
        (0, RUNNING),
        (9, RUNNING),
        (9.5, connector("RUNNING", "RESTARTING", "RUNNING")),
        (10, RUNNING),
        (20, RUNNING),
    ]
    assert judged(progress, *looks) == ["wait", "wait", "wait", "wait", "settled"]


def test_running_means_at_least_one_task() -> None:
    progress = Progress("running", settle=0, restarts=0)
    assert judged(progress, (0, connector("RUNNING")), (60, Connector("c", {}, None)), (61, RUNNING)) == [
        "wait",
        "wait",
        "settled",
    ]


def test_failed_tasks_are_restarted_with_growing_pauses_then_believed() -> None:
    progress = Progress("running", settle=5, restarts=2)
    times = (0, 1.9, 2, 5.9, 6, 10.9, 11)
    assert judged(progress, *((now, FAILED) for now in times)) == [
        "wait", "wait", "restart", "wait", "restart", "wait", "failed",
    ]  # fmt: skip


def test_one_that_recovers_is_fine() -> None:
    progress = Progress("running", settle=5, restarts=1)
    looks = [(0, FAILED), (2, FAILED), (3, RUNNING), (8, RUNNING)]
    assert judged(progress, *looks) == ["wait", "restart", "wait", "settled"]


def test_a_failure_right_after_a_change_may_be_that_of_before() -> None:
    progress = Progress("running", settle=5, restarts=0)
    assert judged(progress, (0, FAILED), (4, FAILED), (4.5, RUNNING), (9.5, RUNNING)) == [
        "wait", "wait", "wait", "settled",
    ]  # fmt: skip


def test_failure_is_believed_sooner_than_success() -> None:
    progress = Progress("running", settle=45, restarts=0)
    assert judged(progress, (0, RUNNING), (31, FAILED), (40, FAILED), (41, FAILED)) == [
        "wait", "wait", "wait", "failed",
    ]  # fmt: skip


def test_a_failed_connector_without_tasks() -> None:
    assert judged(Progress("running", 0, 0), (0, connector("FAILED"))) == ["failed"]


def test_one_that_somebody_removes() -> None:
    progress = Progress("running", settle=0, restarts=0)
    assert judged(progress, (0, None), (19, None), (20, None)) == ["wait", "wait", "gone"]


def test_other_states() -> None:
    def first(state: ConnectorState, seen: Connector | None) -> str:
        return Progress(state, 0, 0).judge(seen, 0)

    assert first("paused", connector("PAUSED", "PAUSED")) == "settled"
    assert first("paused", connector("PAUSED", "RUNNING")) == "wait"
    assert first("stopped", connector("STOPPED")) == "settled"
    assert first("stopped", connector("STOPPED", "RUNNING")) == "wait"
    assert first("absent", None) == "settled"
    assert first("absent", RUNNING) == "wait"
    assert first("running", connector("PAUSED", "PAUSED")) == "wait"
