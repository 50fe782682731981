"""A container transform from its first line to its last, in the triggerer: pod, result. No worker takes part."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed
from airflow_mlplatform.hooks.kubernetes import open_pods, pod_setup
from airflow_mlplatform.runtime.transform_pod import OUTPUT, Staged, TransformPod
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.common import Defaults
from airflow_mlplatform.specs.etl import ContainerTransform
from airflow_mlplatform.triggers.outages import Outages
from airflow_mlplatform.triggers.pod import PodRun, remove
from airflow_mlplatform.triggers.task import TaskTrigger, identify, leave

if TYPE_CHECKING:
    from airflow_mlplatform.runtime.pod_manifest import Identity
    from airflow_mlplatform.training.provenance import Provenance
    from airflow_mlplatform.triggers.pod import PodEnd

__all__ = ["ContainerPlan", "ContainerTransformTrigger"]

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


class ContainerTransformTrigger(TaskTrigger):
    """Makes the pod, follows it, leaves the facts about what it staged in XCom and ends the task.

    :param transform: the container, as JSON of ``ContainerTransform``. Templated.
    :param plan: the rest, as JSON of :class:`ContainerPlan`.
    :param part: the part of listed files that it works on, if it is mapped over parts.
    :param attempt: id of the task instance, where a worker has looked that up; each try has another.
    :param origin: see :class:`~airflow_mlplatform.triggers.starting.StartingTrigger`.
    """

    arguments = ("transform", "plan", "part", "attempt", "origin")

    def __init__(
        self,
        transform: dict[str, Any],
        plan: dict[str, Any],
        part: dict[str, Any] | None = None,
        attempt: str = "",
        origin: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(plan, origin)
        self.transform = transform
        self.part = part
        self.attempt = attempt
        self._identity: Identity | None = None

    async def work(self, origin: Provenance) -> dict[str, Any]:
        """Transform and return the facts about what the pod staged."""
        pod = self._pod(origin)
        self._identity = identify(origin, pod.work)
        manifest = pod.manifest(pod_setup(), self._identity)
        async with open_pods() as pods:
            pod_run = PodRun(pods, manifest, self._identity, self.log, settings().pods.start_timeout)
            end = await pod_run.run()
            if end.failure is None:
                # The result first: who takes over from a dead triggerer then finds the pod that has it.
                await leave(origin, _facts(end))
            await pod_run.remove()
        end.raise_for_failure()
        facts = _facts(end)
        self.log.info("Staged %s rows (%s bytes) at %s", facts["rows"], facts["bytes"], facts["uri"])
        return facts

    async def stop(self, reason: str) -> None:
        """Remove the pod."""
        if self._identity is not None:
            self.log.warning("Removing pod %s: %s", self._identity.name, reason)
            async with open_pods() as pods:
                await remove(pods, self._identity, Outages(LOOKS, self.log))

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


def _container(transform: dict[str, Any]) -> ContainerTransform:
    try:
        return ContainerTransform.model_validate(transform)
    except ValidationError as error:
        # Not the values: a template may have put a secret there.
        problems = "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
        raise ConfigurationError(f"transform: {problems}; correct the arguments of the task") from None


def _facts(end: PodEnd) -> dict[str, Any]:
    message = end.messages.get(OUTPUT, "")
    try:
        return dict(json.loads(message))
    except (ValueError, TypeError):
        raise ProcessFailed(
            f"the pod succeeded but container {OUTPUT} left {message!r:.200} instead of the facts about the data; "
            "let the platform's image hold the same version of airflow-mlplatform as the triggerer"
        ) from None
