"""A training on Kubernetes from its first line to its last: MLflow run, pod, result. No worker takes part."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed, ServiceRefused
from airflow_mlplatform.hooks.kubernetes import open_pods
from airflow_mlplatform.hooks.mlflow import MlflowHook
from airflow_mlplatform.settings import settings
from airflow_mlplatform.steps.storage import Storage
from airflow_mlplatform.training.plan import TrainingPlan
from airflow_mlplatform.training.provenance import Provenance
from airflow_mlplatform.training.tracked_run import Work, label
from airflow_mlplatform.training.training_pod import TrainingPod
from airflow_mlplatform.triggers.starting import NeedsWorker, StartingTrigger
from airflow_mlplatform.triggers.training import Training

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["MlflowRunTrigger", "TrainingEvent"]

ARGUMENTS = ("uri", "experiment", "plan", "version", "parameters", "combination", "origin")
GRACE = 10.0
"""Seconds before Airflow's own time-out, in which the pod is removed."""


class TrainingEvent(BaseModel):
    """What a worker has to do: end the task as ``done``, ``failed`` or ``mistake`` (no retry), or take it ``over``.

    :param message: what to tell people.
    :param result: what a finished training leaves in XCom.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ending: Literal["done", "failed", "mistake", "over"]
    message: str = ""
    result: dict[str, JsonValue] | None = None

    @classmethod
    def decode(cls, payload: object) -> TrainingEvent:
        """Read an event's payload.

        :raises ConfigurationError: if it is not understood; that is a failure, never a success.
        """
        try:
            return cls.model_validate(payload)
        except ValidationError as error:
            raise ConfigurationError(
                f"the event {payload!r:.200} is not one of MlflowRunTrigger ({error.error_count()} problems); "
                "let workers and triggerer run the same version of airflow-mlplatform, then clear the task"
            ) from None


class MlflowRunTrigger(StartingTrigger):
    """Makes the MLflow run and the pod, follows the pod, closes the run, leaves the result in XCom and ends the task.

    Where it goes wrong, a worker ends the task, since Airflow 3.3.0 and 3.3.2 disagree on whether the failure of a
    trigger is retried. What a dead triggerer, worker or pod left behind is found and continued.

    :param uri: the project. Templated, as are the next four.
    :param experiment: MLflow experiment.
    :param version: branch, tag or commit of a git project.
    :param parameters: values for the entry point.
    :param combination: more parameters, one combination of a matrix.
    :param plan: the rest, as JSON of ``TrainingPlan``.
    :param origin: see :class:`~airflow_mlplatform.triggers.starting.StartingTrigger`.
    """

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
        super().__init__(origin)
        self.uri = uri
        self.experiment = experiment
        self.plan = plan
        self.version = version
        self.parameters = parameters
        self.combination = combination
        self.timeout_after: datetime | None = None
        self._training: Training | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in ARGUMENTS}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event: the task's end, or what a worker has to do."""
        event = await self._ended()
        if event.ending == "done" and not TrainingPlan.model_validate(self.plan).by_worker:
            yield TaskSuccessEvent()
        else:
            yield TriggerEvent(event.model_dump(mode="json"))

    async def on_kill(self) -> None:
        """Remove the pod and close the run, for a person has ended the task."""
        await self._stop("the Airflow task was ended by hand")

    async def _ended(self) -> TrainingEvent:
        try:
            async with asyncio.timeout(self._seconds_left()), self._opened(await self.prepare()) as training:
                result = await training.run()
        except TimeoutError:
            why = "the training ran longer than the task's execution_timeout"
            await self._stop(why)
            return TrainingEvent(ending="failed", message=f"{why}; raise timeout, or train on less")
        except NeedsWorker as error:
            return TrainingEvent(ending="over", message=str(error))
        except ProcessFailed as error:
            return TrainingEvent(ending="failed", message=str(error))
        except (ConfigurationError, ServiceRefused) as error:
            return TrainingEvent(ending="mistake", message=str(error))
        return TrainingEvent(ending="done", result=dict(result))

    async def _stop(self, reason: str) -> None:
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

    def _seconds_left(self) -> float | None:
        if self.timeout_after is None:
            return None
        aware = self.timeout_after if self.timeout_after.tzinfo else self.timeout_after.replace(tzinfo=UTC)
        return max(1.0, (aware - datetime.now(UTC)).total_seconds() - GRACE)


def _in_pond(value: object) -> bool:
    return isinstance(value, str) and value.startswith("pond://")
