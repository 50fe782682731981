"""What the executor does about worker pods, against a Kubernetes that is a list of pods."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.executors.executor_loader import ExecutorLoader
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.providers.cncf.kubernetes.executors.kubernetes_executor import KubernetesExecutor
from airflow.providers.cncf.kubernetes.executors.kubernetes_executor_types import KubernetesResults
from airflow.utils.state import TaskInstanceState
from kubernetes.client.rest import ApiException
from urllib3.exceptions import MaxRetryError

from airflow_mlplatform import executor as module
from airflow_mlplatform.executor import MlplatformKubernetesExecutor
from airflow_mlplatform.worker_pods import WorkerPods

PODS = Path(__file__).parent / "runtime" / "pods"
REFUSALS = json.loads((PODS / "refusals.json").read_text("utf-8"))
KEY = TaskInstanceKey("wine-etl", "extract", "run one", 1, -1)
PATH = "airflow_mlplatform.executor.MlplatformKubernetesExecutor"


def worker(name: str, key: TaskInstanceKey = KEY, created: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    """A recorded pod as if the executor had made it."""
    found: dict[str, Any] = json.loads((PODS / f"{name}.json").read_text("utf-8"))
    names = {"dag_id": key.dag_id, "task_id": key.task_id, "run_id": key.run_id, "try_number": str(key.try_number)}
    found["metadata"] |= {"annotations": names | {"map_index": str(key.map_index)}, "creationTimestamp": created}
    return found


@dataclass
class FakeKubernetes:
    """The calls that the scheduler's role allows and the executor needs."""

    pods: list[dict[str, Any]]
    error: Exception | None = None
    selectors: list[str] = field(default_factory=list)

    def list_namespaced_pod(self, namespace: str, *, label_selector: str, _request_timeout: Any, **_: Any) -> Any:
        if self.error:
            raise self.error
        self.selectors.append(label_selector)
        return SimpleNamespace(data=json.dumps({"items": self.pods}).encode())

    def delete_namespaced_pod(self, name: str, namespace: str, *, _request_timeout: Any) -> None:
        if name not in [pod["metadata"]["name"] for pod in self.pods]:
            raise ApiException(status=404)
        self.pods = [pod for pod in self.pods if pod["metadata"]["name"] != name]


@dataclass
class Stage:
    """An executor that runs one task, and what it did."""

    executor: MlplatformKubernetesExecutor
    kubernetes: FakeKubernetes
    notes: list[tuple[TaskInstanceKey, str, str]] = field(default_factory=list)
    spent: list[TaskInstanceKey] = field(default_factory=list)
    kept: list[TaskInstanceKey] = field(default_factory=list)
    is_unfinished: bool = True
    state: str = "running"
    queue: Queue[Any] = field(default_factory=Queue)

    def look(self) -> None:
        """What the executor does every few seconds."""
        assert self.executor._pods
        self.executor._look(self.executor._pods)

    @property
    def left(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.kubernetes.pods]

    def fail(self, info: object = None) -> object:
        """Let Airflow's executor report the failure; what it says in the end."""
        self.executor.fail(KEY, info)
        return self.executor.get_event_buffer()[KEY][1]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    executor, kubernetes = MlplatformKubernetesExecutor(), FakeKubernetes([])
    stage = Stage(executor, kubernetes)
    config = SimpleNamespace(multi_namespace_mode=False, kube_namespace="ml")
    executor._pods = WorkerPods(kubernetes, config)  # type: ignore[arg-type]
    executor._notes = SimpleNamespace(add=lambda *note: stage.notes.append(note))  # type: ignore[assignment]
    executor._found, executor._told, executor._absent, executor._delete_failed = {}, {}, set(), True
    executor.task_queue = stage.queue
    executor.running = {KEY}
    monkeypatch.setattr(module, "unfinished", lambda key: stage.is_unfinished)
    monkeypatch.setattr(module, "state_of", lambda key: stage.state)
    monkeypatch.setattr(module, "spend_retries", stage.spent.append)
    monkeypatch.setattr(module, "keep_try", stage.kept.append)
    return stage


def test_a_mistake_fails_the_task_at_once_and_frees_the_pod(stage: Stage) -> None:
    stage.kubernetes.pods = [worker("image-not-found")]
    stage.look()
    assert stage.left == []
    state, info = stage.executor.get_event_buffer()[KEY]
    assert state == TaskInstanceState.FAILED
    assert "localhost:5000/nobody:1 cannot be pulled" in str(info)
    assert stage.notes == [(KEY, info, "error")]
    assert stage.spent == [KEY]
    assert KEY not in stage.executor.running


def test_what_a_pod_waits_for_is_noted_once(stage: Stage) -> None:
    stage.kubernetes.pods = [worker("unsched-gpu")]
    stage.look()
    stage.look()
    ((key, message, level),) = stage.notes
    assert (key, level) == (KEY, "warning")
    assert "too little free nvidia.com/gpu" in message
    stage.kubernetes.pods = [worker("image-too-many")]
    stage.look()
    assert "429 Too Many Requests" in stage.notes[1][1]
    assert (stage.left, stage.spent, stage.executor.event_buffer) == (["image-too-many"], [], {})


def test_pods_of_tasks_that_someone_has_marked_are_deleted(stage: Stage) -> None:
    stage.is_unfinished = False
    stage.kubernetes.pods = [worker("unsched-gpu")]
    stage.look()
    assert (stage.left, stage.notes, stage.executor.running, stage.executor.event_buffer) == ([], [], set(), {})


@pytest.mark.parametrize(
    ("pod", "told", "lasting"),
    [
        ("oom-own-limit", "its limit of 64Mi", True),
        ("exit-1", "ValueError: no column alcohol", False),
        ("evicted-api", "was evicted", False),
        ("image-too-many", "429 Too Many Requests", False),
        ("running", "its task is not heard from", False),
        (None, "the pod is gone", False),
    ],
)
def test_a_failure_is_told_and_only_mistakes_spend_the_retries(
    stage: Stage, pod: str | None, told: str, lasting: bool
) -> None:
    stage.kubernetes.pods = [worker(pod)] if pod else []
    info = stage.fail("Pod failed because of None")
    assert told in str(info)
    assert stage.notes == [(KEY, info, "error")]
    assert (stage.spent, stage.kept) == (([KEY], []) if lasting else ([], [KEY]))


def test_the_newest_pod_of_that_try_is_looked_at(stage: Stage) -> None:
    other = TaskInstanceKey("wine-etl", "extract", "run two", 1, -1)
    stage.kubernetes.pods = [
        worker("evicted-api", created="2026-01-01T00:00:01Z"),
        worker("exit-1", created="2026-01-01T00:00:02Z"),
        worker("oom-own-limit", other, created="2026-01-01T00:00:03Z"),
    ]
    assert "no column alcohol" in str(stage.fail())
    assert "dag_id=wine-etl,task_id=extract,try_number=1" in stage.kubernetes.selectors[-1]


def test_a_pod_that_is_lost_before_its_task_runs(stage: Stage) -> None:
    stage.state = "queued"
    stage.kubernetes.error = ConnectionRefusedError()
    stage.look()
    stage.look()
    stage.kubernetes.error = None
    stage.look()
    assert stage.executor.event_buffer == {}
    stage.look()
    assert "the pod is gone" in str(stage.executor.get_event_buffer()[KEY][1])
    assert stage.spent == []


def test_a_pod_that_shows_late_is_not_missed(stage: Stage) -> None:
    stage.state = "queued"
    stage.look()
    stage.kubernetes.pods = [worker("unsched-gpu")]
    stage.look()
    stage.kubernetes.pods = []
    stage.look()
    assert stage.executor.event_buffer == {}


def test_a_pod_that_is_not_made_yet_is_not_missed(stage: Stage) -> None:
    stage.state = "queued"
    stage.queue.put(KEY)
    stage.look()
    stage.look()
    assert stage.executor.event_buffer == {}


def test_a_pod_that_kubernetes_refuses_for_now_is_not_missed(stage: Stage) -> None:
    stage.state = "queued"
    stage.queue.put(KEY)
    stage.executor.task_publish_retries[KEY] = 1
    stage.look()
    stage.look()
    assert stage.executor.event_buffer == {}


def test_a_running_task_is_left_to_airflows_executor(stage: Stage) -> None:
    stage.look()
    stage.look()
    assert stage.executor.event_buffer == {}


def test_of_pods_that_were_made_anew_the_newest_counts(stage: Stage) -> None:
    newer = worker("unsched-selector", created="2026-01-01T00:00:02Z")
    stage.kubernetes.pods = [newer, worker("image-not-found", created="2026-01-01T00:00:01Z")]
    stage.look()
    ((_, message, _),) = stage.notes
    assert "node selector" in message


def test_refused_pods(stage: Stage) -> None:
    error = ApiException(status=403, reason="Forbidden")
    error.body = json.dumps(REFUSALS["unknown-service-account"]["body"])
    assert 'serviceaccount "nobody" not found' in str(stage.fail(error))
    assert stage.spent == [KEY]


def test_a_broken_executor_config_is_a_mistake(stage: Stage) -> None:
    assert "correct its executor_config" in str(stage.fail("Invalid executor_config passed"))
    assert stage.spent == [KEY]


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError(111, "refused"), ApiException(status=503), ValueError("no JSON")]
)
def test_a_kubernetes_that_is_away_changes_nothing(stage: Stage, error: Exception) -> None:
    stage.kubernetes.error = error
    stage.look()
    assert stage.fail("Pod failed because of None") == "Pod failed because of None"
    assert (stage.notes, stage.spent) == ([], [])


def test_tasks_that_ended_by_themselves_are_left_alone(stage: Stage) -> None:
    stage.is_unfinished = False
    stage.kubernetes.pods = [worker("exit-1")]
    assert stage.fail("Pod failed because of None") == "Pod failed because of None"
    assert stage.notes == []


def succeeded(state: str = "Succeeded") -> dict[str, Any]:
    """The pod of a task whose process was killed; Airflow's supervisor outlived it, and ended well."""
    found = worker("oom-child")
    found["status"]["phase"] = state
    found["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] = 0
    return found


@pytest.fixture
def ends(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let Airflow's executor hear that a pod succeeded: it looks up the task's state and deletes the pod."""

    def change_state(self: Any, results: KubernetesResults, **_: Any) -> None:
        stage.kubernetes.pods = [pod for pod in stage.kubernetes.pods if pod["metadata"]["name"] != results.pod_name]
        if results.key in self.running:
            self.running.remove(results.key)
            self.event_buffer[results.key] = (stage.state, None)

    monkeypatch.setattr(KubernetesExecutor, "_change_state", change_state)
    return lambda name: stage.executor._change_state(KubernetesResults(KEY, None, name, "ml", "1", None))


def test_airflow_still_has_what_is_overridden() -> None:
    assert {"_change_state", "sync", "revoke_task", "start", "end"} <= vars(KubernetesExecutor).keys()


def test_a_killed_task_fails_at_once_instead_of_when_its_heartbeat_is_missed(stage: Stage, ends: Any) -> None:
    stage.kubernetes.pods = [succeeded()]
    ends("oom-child")
    state, info = stage.executor.get_event_buffer()[KEY]
    assert state == TaskInstanceState.FAILED
    assert "its limit of 64Mi" in str(info)
    assert (stage.spent, stage.notes) == ([KEY], [(KEY, info, "error")])


def test_a_task_that_was_killed_otherwise_is_tried_again(stage: Stage, ends: Any) -> None:
    stage.kubernetes.pods = [worker("succeeded")]
    ends("succeeded")
    assert "nobody told Airflow how its task did" in str(stage.executor.get_event_buffer()[KEY][1])
    assert stage.spent == []


def test_a_task_that_failed_for_want_of_memory_is_told_so(stage: Stage, ends: Any) -> None:
    stage.kubernetes.pods, stage.state = [succeeded()], "failed"
    ends("oom-child")
    ((_, message, level),) = stage.notes
    assert level == "error"
    assert "its limit of 64Mi" in message


@pytest.mark.parametrize("state", ["success", "deferred", "queued", "scheduled", "failed"])
def test_pods_of_tasks_that_ended_well_or_wait_elsewhere_are_nothing_to_tell(
    stage: Stage, ends: Any, state: str
) -> None:
    stage.kubernetes.pods, stage.state = [worker("succeeded")], state
    ends("succeeded")
    assert (stage.notes, stage.spent) == ([], [])


@pytest.mark.parametrize(("state", "phase"), [("queued", "Pending"), ("running", "Running")])
def test_a_task_that_is_back_from_the_triggerer_outlives_the_news_of_its_former_pod(
    stage: Stage, ends: Any, state: str, phase: str
) -> None:
    """Kubernetes tells the end of a pod several times, and the task is queued again under the same key."""
    stage.state = state
    stage.kubernetes.pods = [worker("succeeded"), worker("running", created="2026-01-01T00:00:09Z")]
    new = stage.kubernetes.pods[1]
    new["status"]["phase"] = phase
    ends("succeeded")
    assert stage.executor.get_event_buffer() == {}
    assert stage.executor.running == {KEY}
    stage.look()
    assert stage.left == [new["metadata"]["name"]]


def test_a_pod_whose_task_goes_on_is_not_deleted_for_want_of_its_key(stage: Stage) -> None:
    stage.executor.running = set()
    stage.kubernetes.pods = [worker("image-too-many")]
    stage.look()
    assert stage.left == ["image-too-many"]


def test_successes_are_left_alone(stage: Stage) -> None:
    stage.executor.success(KEY, "well done")
    assert stage.executor.get_event_buffer() == {KEY: (TaskInstanceState.SUCCESS, "well done")}
    assert stage.kubernetes.selectors == []


def test_failed_pods_are_deleted_after_they_were_explained(stage: Stage) -> None:
    stage.kubernetes.pods = [worker("exit-1")]
    stage.look()
    assert stage.left == ["exit-1"], "it has not been reported yet"
    stage.executor.fail(KEY)
    stage.look()
    assert stage.left == ["exit-1"], "it has not been explained yet"
    stage.executor.get_event_buffer()
    stage.look()
    assert stage.left == []


def test_failed_pods_stay_where_the_configuration_wants_it_but_pods_that_could_start_do_not(stage: Stage) -> None:
    stage.executor._delete_failed, stage.is_unfinished = False, False
    stage.executor.running = set()
    names = ["exit-1", "image-too-many", "running", "succeeded"]
    stage.kubernetes.pods = [worker(name, KEY._replace(task_id=name)) for name in names]
    stage.look()
    assert stage.left == ["exit-1", "deleted-running", "succeeded"]


def test_a_task_that_waited_too_long(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    revoked: list[Any] = []
    monkeypatch.setattr("airflow.providers.cncf.kubernetes.executors.kubernetes_executor.KubernetesExecutor.revoke_task",
                        lambda _self, *, ti: revoked.append(ti))  # fmt: skip
    stage.kubernetes.pods = [worker("unsched-selector")]
    ti: Any = SimpleNamespace(key=KEY)
    stage.executor.revoke_task(ti=ti)
    assert revoked == [ti]
    ((_, message, _),) = stage.notes
    assert message.startswith("queued for longer than [scheduler] task_queued_timeout: pod unsched-selector")


def test_it_is_found_as_airflow_and_its_chart_look_for_it() -> None:
    assert ExecutorLoader.import_executor_cls(_name())[0] is MlplatformKubernetesExecutor
    # The pattern of `executor` in the values.schema.json of the official chart; its templates look for the words.
    assert re.match(r"^(([a-zA-Z_][a-zA-Z0-9_]*.)*[A-Z][a-zA-Z0-9]+Executor)$", PATH)
    assert "KubernetesExecutor" in PATH


def _name() -> Any:
    from airflow.executors.executor_utils import ExecutorName

    return ExecutorName(module_path=PATH)


def test_an_executor_that_only_reads_logs_needs_no_kubernetes() -> None:
    executor = MlplatformKubernetesExecutor()
    executor.fail(KEY, "x")
    assert executor.get_event_buffer() == {KEY: (TaskInstanceState.FAILED, "x")}
    executor.end()


@pytest.mark.parametrize("error", [MaxRetryError(None, "/pods"), ApiException(503), ApiException(429)])  # type: ignore[arg-type]
def test_a_kubernetes_that_is_away_ends_no_scheduler_and_resets_no_tasks(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    executor = answering(monkeypatch, error)
    executor.sync()
    assert list(executor.try_adopt_task_instances([])) == []


def test_a_kubernetes_that_refuses_ends_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ApiException):
        answering(monkeypatch, ApiException(403)).sync()


def answering(monkeypatch: pytest.MonkeyPatch, error: Exception) -> MlplatformKubernetesExecutor:
    def away(*_: object) -> None:
        raise error

    monkeypatch.setattr(KubernetesExecutor, "try_adopt_task_instances", away)
    monkeypatch.setattr(KubernetesExecutor, "sync", away)
    return MlplatformKubernetesExecutor.__new__(MlplatformKubernetesExecutor)
