"""A container transform from its first line to its last, in the triggerer: pod, result. No worker takes part."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed, ServiceRefused
from airflow_mlplatform.hooks.kubernetes import open_pods, pod_setup
from airflow_mlplatform.runtime.pod_manifest import Identity
from airflow_mlplatform.runtime.transform_pod import OUTPUT, Staged, TransformPod
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.common import Defaults
from airflow_mlplatform.specs.etl import ContainerTransform
from airflow_mlplatform.triggers.outages import Outages
from airflow_mlplatform.triggers.pod import PodEnd, PodRun, patiently
from airflow_mlplatform.triggers.starting import NeedsWorker, StartingTrigger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_mlplatform.clients.kubernetes import Pods
    from airflow_mlplatform.training.provenance import Provenance

__all__ = ["ContainerEvent", "ContainerPlan", "ContainerTransformTrigger"]

ARGUMENTS = ("transform", "plan", "part", "attempt", "origin")
GRACE = 10.0
"""Seconds before Airflow's own time-out, in which the pod is removed."""
LOOKS = 2.0


class ContainerPlan(BaseModel):
    """What of a container transform is fixed while its DAG is built.

    :param input: id of the task that staged the data.
    :param listing: id of the task that listed the files, if ``input`` is mapped over parts of them.
    :param pod: resources and so on, as JSON of ``Defaults``.
    :param timeout: seconds after which Kubernetes ends the pod.
    :param by_worker: a worker ends the task, for what a trigger cannot do (asset events).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str
    listing: str | None = None
    pod: dict[str, Any] = {}
    timeout: float | None = None
    by_worker: bool = False


class ContainerEvent(BaseModel):
    """What a worker has to do: end the task as ``done``, ``failed`` or ``mistake`` (no retry), or take it ``over``.

    :param message: what to tell people.
    :param result: facts about the staged data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ending: Literal["done", "failed", "mistake", "over"]
    message: str = ""
    result: dict[str, JsonValue] | None = None

    @classmethod
    def decode(cls, payload: object) -> ContainerEvent:
        """Read an event's payload.

        :raises ConfigurationError: if it is not understood; that is a failure, never a success.
        """
        try:
            return cls.model_validate(payload)
        except ValidationError as error:
            raise ConfigurationError(
                f"the event {payload!r:.200} is not one of ContainerTransformTrigger ({error.error_count()} problems); "
                "let workers and triggerer run the same version of airflow-mlplatform, then clear the task"
            ) from None


class ContainerTransformTrigger(StartingTrigger):
    """Makes the pod, follows it, leaves the facts about what it staged in XCom and ends the task.

    Where it goes wrong, a worker ends the task, since Airflow 3.3.0 and 3.3.2 disagree on whether the failure of a
    trigger is retried. What a dead triggerer, worker or pod left behind is found and continued.

    :param transform: the container, as JSON of ``ContainerTransform``. Templated.
    :param plan: the rest, as JSON of :class:`ContainerPlan`.
    :param part: the part of listed files that it works on, if it is mapped over parts.
    :param attempt: id of the task instance, where a worker has looked that up; each try has another.
    :param origin: see :class:`~airflow_mlplatform.triggers.starting.StartingTrigger`.
    """

    def __init__(
        self,
        transform: dict[str, Any],
        plan: dict[str, Any],
        part: dict[str, Any] | None = None,
        attempt: str = "",
        origin: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(origin)
        self.transform = transform
        self.plan = plan
        self.part = part
        self.attempt = attempt
        self.timeout_after: datetime | None = None
        self._identity: Identity | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in ARGUMENTS}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event: the task's end, or what a worker has to do."""
        event = await self._ended()
        if event.ending == "done" and not ContainerPlan.model_validate(self.plan).by_worker:
            yield TaskSuccessEvent()
        else:
            yield TriggerEvent(event.model_dump(mode="json"))

    async def on_kill(self) -> None:
        """Remove the pod, for a person has ended the task."""
        if self._identity is not None:
            async with open_pods() as pods:
                await self._remove(pods, self._identity)

    async def _remove(self, pods: Pods, identity: Identity) -> None:
        """Remove the pod of this try, not one of the same name that a later try has made meanwhile."""

        async def remove() -> None:
            pod = await pods.get(identity.name)
            if pod is not None and identity.same_work(pod["metadata"].get("annotations") or {}):
                await pods.delete(identity.name, pod["metadata"]["uid"])

        await patiently(remove, Outages(LOOKS, self.log))

    async def _ended(self) -> ContainerEvent:
        try:
            async with asyncio.timeout(self._seconds_left()):
                result = await self._transformed(await self.prepare())
        except TimeoutError:
            await self.on_kill()
            why = "the container ran longer than the task's execution_timeout"
            return ContainerEvent(ending="failed", message=f"{why}; raise timeout, or give it less to do")
        except NeedsWorker as error:
            return ContainerEvent(ending="over", message=str(error))
        except ProcessFailed as error:
            return ContainerEvent(ending="failed", message=str(error))
        except (ConfigurationError, ServiceRefused) as error:
            return ContainerEvent(ending="mistake", message=str(error))
        return ContainerEvent(ending="done", result=result)

    async def _transformed(self, origin: Provenance) -> dict[str, Any]:
        pod = self._pod(origin)
        self._identity = identity = Identity(
            dag_id=origin.dag_id,
            run_id=origin.dag_run_id,
            task_id=origin.task_id,
            map_index=origin.map_index,
            try_number=origin.try_number,
            key=origin.key,
            work=pod.work,
        )
        manifest = pod.manifest(pod_setup(), identity)
        async with open_pods() as pods:
            end = await PodRun(pods, manifest, identity, self.log, settings().pods.start_timeout).run()
            # The result first: who takes over from a dead triggerer then finds the pod that has it.
            result = None if end.failure else _result(end)
            if result is not None:
                await _leave(result, origin)
            await self._remove(pods, identity)
        if end.failure is not None:
            raise (ConfigurationError if end.failure.lasting else ProcessFailed)(end.failure.message)
        assert result is not None
        self.log.info("Staged %s rows (%s bytes) at %s", result["rows"], result["bytes"], result["uri"])
        return result

    def _pod(self, origin: Provenance) -> TransformPod:
        plan = ContainerPlan.model_validate(self.plan)
        ti: Any = self._context["ti"] if self._context is not None else None
        if self.part is not None:
            source, target = Staged(plan.input, part=self.part), Staged(origin.task_id, part=self.part)
        else:
            index = f"[{origin.map_index}]" if origin.map_index >= 0 else ""
            source = Staged(plan.input, plan.listing) if plan.listing else Staged(plan.input + index)
            target = Staged(origin.task_id + index)
        return TransformPod(
            transform=_container(self.transform),
            defaults=Defaults.model_validate(plan.pod, strict=False),
            staging=settings().staging,
            source=source,
            target=target,
            attempt=self.attempt or str(ti.id),
            timeout=plan.timeout,
        )

    def _seconds_left(self) -> float | None:
        if self.timeout_after is None:
            return None
        aware = self.timeout_after if self.timeout_after.tzinfo else self.timeout_after.replace(tzinfo=UTC)
        return max(1.0, (aware - datetime.now(UTC)).total_seconds() - GRACE)


def _container(transform: dict[str, Any]) -> ContainerTransform:
    try:
        return ContainerTransform.model_validate(transform)
    except ValidationError as error:
        # Not the values: a template may have put a secret there.
        problems = "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
        raise ConfigurationError(f"transform: {problems}; correct the arguments of the task") from None


def _result(end: PodEnd) -> dict[str, Any]:
    message = end.messages.get(OUTPUT, "")
    try:
        return dict(json.loads(message))
    except (ValueError, TypeError):
        raise ProcessFailed(
            f"the pod succeeded but container {OUTPUT} left {message!r:.200} instead of the facts about the data; "
            "let the platform's image hold the same version of airflow-mlplatform as the triggerer"
        ) from None


async def _leave(result: dict[str, Any], origin: Provenance) -> None:
    """Put the result into the task's XCom, as a worker would."""
    await XCom.aset(
        "return_value",
        result,
        dag_id=origin.dag_id,
        task_id=origin.task_id,
        run_id=origin.dag_run_id,
        map_index=origin.map_index,
    )
