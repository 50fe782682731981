"""The story of one training on Kubernetes: find or make the run and the pod, follow, close, tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from airflow_mlplatform.clients.http import drive_async
from airflow_mlplatform.clients.mlflow_operations import get_run, set_run_tags, update_run
from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed
from airflow_mlplatform.hooks.kubernetes import pod_setup
from airflow_mlplatform.links import MlflowRunLink
from airflow_mlplatform.settings import settings
from airflow_mlplatform.training.provenance import CODE_VERSION, REASON
from airflow_mlplatform.training.tracked_run import COMMIT, TRY, close, find_or_create, result_of
from airflow_mlplatform.training.training_pod import PROJECT, TRAIN
from airflow_mlplatform.triggers.outages import Outages
from airflow_mlplatform.triggers.pod import PodRun, patiently, remove
from airflow_mlplatform.triggers.task import identify, leave

if TYPE_CHECKING:
    from airflow_mlplatform.clients.http import Operation
    from airflow_mlplatform.clients.kubernetes import Pods
    from airflow_mlplatform.clients.mlflow import AsyncMlflowClient, Run
    from airflow_mlplatform.hooks.mlflow import MlflowHook
    from airflow_mlplatform.runtime.pod_manifest import Identity
    from airflow_mlplatform.training.provenance import Provenance
    from airflow_mlplatform.training.tracked_run import RunResult, Work
    from airflow_mlplatform.training.training_pod import TrainingPod
    from airflow_mlplatform.triggers.pod import PodEnd

__all__ = ["Training"]

T = TypeVar("T")

LOOKS = 2.0


@dataclass
class Training:
    """One training, whose MLflow run and pod are the task's: a later try, or another triggerer, goes on with them.

    :param work: what it does, for MLflow.
    :param pod: what it does, for Kubernetes.
    :param origin: whose it is.
    :param hook: MLflow's hook, its connection looked up.
    :param mlflow: an open client.
    :param pods: an open client.
    :param log: the task's log.

    ``run_id`` is the MLflow run's, as soon as there is one.
    """

    work: Work
    pod: TrainingPod
    origin: Provenance
    hook: MlflowHook
    mlflow: AsyncMlflowClient
    pods: Pods
    log: Any
    run_id: str = field(default="", init=False)
    _identity: Identity = field(init=False)
    _outages: Outages = field(init=False)

    def __post_init__(self) -> None:
        self._identity = identify(self.origin, self.pod.work)
        self._outages = Outages(LOOKS, self.log)

    async def run(self) -> RunResult:
        """Train and return the result, which is in XCom too.

        :raises ProcessFailed: if it failed or was lost; another try may help.
        :raises ConfigurationError: for a mistake that no retry mends.
        :raises ServiceRefused: if MLflow or Kubernetes will not.
        """
        run = await self._ask(lambda: find_or_create(self.work, self.origin, self.log))
        self.run_id = run.run_id
        await leave(self.origin, self.hook.run_url(run), MlflowRunLink.key)
        self.log.info("MLflow run %s: %s", run.run_id, self.hook.run_url(run))
        pod = self._pod_run(run)
        end = await (pod.run() if run.active else pod.find())
        if end is not None:
            await self._close(run, end)
            await pod.remove()
            end.raise_for_failure()
        result = await self._succeeded(run)
        await leave(self.origin, result)
        return result

    async def stop(self, run_id: str, reason: str) -> None:
        """Remove the pod and close the run, unless the next try has them already; it opens the run again.

        :param run_id: the MLflow run; empty if there is none yet.
        """
        await remove(self.pods, self._identity, self._outages)
        if run_id:
            run = await self._ask(lambda: get_run(run_id))
            if run.tags.get(TRY) == str(self.origin.try_number):
                await self._ask(lambda: close(run_id, "KILLED", reason))

    def _pod_run(self, run: Run) -> PodRun:
        manifest = self.pod.manifest(
            pod_setup(),
            self._identity,
            run.run_id,
            run.experiment_id,
            image=settings().pods.training_image,
            tracking_uri=self._tracking_uri(),
        )
        return PodRun(self.pods, manifest, self._identity, self.log, settings().pods.start_timeout)

    def _tracking_uri(self) -> str:
        endpoint = self.hook.endpoint()
        if (endpoint.login or endpoint.token) and not settings().pods.credentials_secret:
            raise ConfigurationError(
                f"connection {self.hook.mlflow_conn_id!r} has credentials, which a pod would show; put them into a "
                "Kubernetes Secret (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN) "
                "and name it in [mlplatform] credentials_secret"
            )
        parts = urlsplit(endpoint.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    async def _close(self, run: Run, end: PodEnd) -> None:
        """Record what the pod told and, if it failed, why."""
        await self._note_code(run, end)
        if end.failure is None:
            return
        failed = end.failure.lasting or (TRAIN in end.started and end.failure.reason == "ExitCode")
        reason = end.tail.reason if TRAIN in end.started and failed else end.failure.message
        current = await self._ask(lambda: get_run(run.run_id))
        if current.active or REASON not in current.tags:
            await self._ask(lambda: close(run.run_id, "FAILED" if failed else "KILLED", reason))

    async def _note_code(self, run: Run, end: PodEnd) -> None:
        message = end.messages.get(PROJECT, "")
        if message.startswith("{"):
            found = json.loads(message)
            tags = {CODE_VERSION: found.get("code_version"), COMMIT: found.get("commit")}
            await self._ask(lambda: set_run_tags(run.run_id, {key: value for key, value in tags.items() if value}))

    async def _succeeded(self, run: Run) -> RunResult:
        """See that the run ended well, whoever closed it."""
        current = await self._ask(lambda: get_run(run.run_id))
        if current.status in ("FAILED", "KILLED"):
            reason = current.tags.get(REASON, "its project closed it so")
            raise ProcessFailed(f"MLflow run {run.run_id} is {current.status}: {reason}")
        if current.active:
            await self._ask(lambda: update_run(run.run_id, "FINISHED"))
        return await self._ask(lambda: result_of(run.run_id, self.hook.run_url))

    async def _ask(self, operation: Callable[[], Operation[T]]) -> T:
        return await patiently(lambda: drive_async(operation(), self.mlflow.http), self._outages)
