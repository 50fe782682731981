"""A training on Kubernetes from its first line to its last: MLflow run, pod, result. No worker takes part."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.hooks.kubernetes import open_pods
from airflow_mlplatform.hooks.mlflow import MlflowHook
from airflow_mlplatform.settings import settings
from airflow_mlplatform.steps.storage import Storage
from airflow_mlplatform.training.plan import TrainingPlan
from airflow_mlplatform.training.tracked_run import Work, label
from airflow_mlplatform.training.training_pod import TrainingPod
from airflow_mlplatform.triggers.task import TaskTrigger
from airflow_mlplatform.triggers.training import Training

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_mlplatform.training.provenance import Provenance
    from airflow_mlplatform.training.tracked_run import RunResult

__all__ = ["MlflowRunTrigger"]


class MlflowRunTrigger(TaskTrigger):
    """Makes the MLflow run and the pod, follows the pod, closes the run, leaves the result in XCom and ends the task.

    :param uri: the project. Templated, as are the next four.
    :param experiment: MLflow experiment.
    :param version: branch, tag or commit of a git project.
    :param parameters: values for the entry point.
    :param combination: more parameters, one combination of a matrix.
    :param plan: the rest, as JSON of ``TrainingPlan``.
    :param origin: see :class:`~airflow_mlplatform.triggers.starting.StartingTrigger`.
    """

    arguments = ("uri", "experiment", "plan", "version", "parameters", "combination", "origin")

    def __init__(
        self,
        uri: str,
        experiment: str,
        plan: dict[str, Any],
        version: str | None = None,
        parameters: dict[str, Any] | None = None,
        combination: dict[str, Any] | None = None,
        origin: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(plan, origin)
        self.uri = uri
        self.experiment = experiment
        self.version = version
        self.parameters = parameters
        self.combination = combination
        self._training: Training | None = None

    async def work(self, origin: Provenance) -> RunResult:
        """Train and return the result."""
        async with self._opened(origin) as training:
            return await training.run()

    async def stop(self, reason: str) -> None:
        """Remove the pod and close the run."""
        if self._training is not None:
            former = self._training
            async with self._opened(former.origin) as training:
                await training.stop(former.run_id, reason)

    @asynccontextmanager
    async def _opened(self, origin: Provenance) -> AsyncIterator[Training]:
        """Open the clients of a training."""
        pod = self._pod()
        hook = MlflowHook(pod.plan.mlflow_conn_id)
        async with await hook.async_client() as mlflow, open_pods() as pods:
            self._training = Training(self._work(pod), pod, origin, hook, mlflow, pods, self.log)
            yield self._training

    def _pod(self) -> TrainingPod:
        storage = Storage(pond=settings().pond)
        given = {**(self.parameters or {}), **(self.combination or {})}
        located = {
            name: storage.resolve(str(value)) if _in_pond(value) else str(value) for name, value in given.items()
        }
        return TrainingPod(self.uri, self.version, located, TrainingPlan.model_validate(self.plan))

    def _work(self, pod: TrainingPod) -> Work:
        return Work(
            experiment=self.experiment,
            uri=self.uri,
            entry_point=pod.plan.entry_point,
            parameters=pod.parameters,
            fingerprint=pod.fingerprint,
            owner=pod.plan.owner,
            name=label(self.combination or {}),
        )


def _in_pond(value: object) -> bool:
    return isinstance(value, str) and value.startswith("pond://")
