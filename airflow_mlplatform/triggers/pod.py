"""One pod, made or found again, followed to its end, whatever is away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_mlplatform.clients.kubernetes import Pod, Pods
from airflow_mlplatform.clients.kubernetes_api import ObjectRefused
from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed, ServiceRefused, ServiceUnavailable
from airflow_mlplatform.runtime.pod_failure import PodFailure, failure, obstacle, refusal
from airflow_mlplatform.runtime.process_output import Tail
from airflow_mlplatform.triggers.outages import Outages

if TYPE_CHECKING:
    from airflow_mlplatform.runtime.pod_manifest import Identity

__all__ = ["PodEnd", "PodRun", "patiently", "remove"]

T = TypeVar("T")

FIRST_LOOKS = 1.0
LATER_LOOKS = 8.0
LAST_LINES_SECONDS = 15.0
ENDED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True)
class PodEnd:
    """How a pod ended.

    :param failure: why it did not succeed; ``None`` if it did.
    :param messages: container → its termination message.
    :param started: the containers that started.
    :param tail: the last lines of the container that ended last.
    """

    failure: PodFailure | None
    messages: Mapping[str, str] = field(default_factory=dict)
    started: frozenset[str] = frozenset()
    tail: Tail = field(default_factory=Tail)

    def raise_for_failure(self) -> None:
        """Do nothing if it succeeded.

        :raises ConfigurationError: for a mistake that no retry mends.
        :raises ProcessFailed: if another try may help.
        """
        if self.failure is not None:
            raise (ConfigurationError if self.failure.lasting else ProcessFailed)(self.failure.message)


async def patiently(ask: Callable[[], Awaitable[T]], outages: Outages) -> T:
    """Ask until there is an answer; an outage costs patience and one line in the log."""
    while True:
        try:
            answer = await ask()
        except ServiceUnavailable as error:
            outages.failed(error)
            await asyncio.sleep(outages.pause)
        else:
            outages.answered()
            return answer


async def remove(pods: Pods, identity: Identity, outages: Outages) -> None:
    """Remove a task's pod, if it is there and not a later try's: a triggerer may hear late that its task was ended."""
    pod = await patiently(lambda: pods.get(identity.name), outages)
    if pod is not None and not identity.outdated_by(_annotations(pod)):
        await patiently(lambda: pods.delete(identity.name, pod["metadata"]["uid"]), outages)


class PodRun:
    """A task's pod. Its name is the task's, so that there is never a second one beside it.

    :param pods: the namespace's pods.
    :param manifest: what to make.
    :param identity: whose pod it is.
    :param log: the task's log, which gets the lines of all containers.
    :param start_timeout: seconds that the pod may need until its first container starts.
    """

    def __init__(self, pods: Pods, manifest: Pod, identity: Identity, log: Any, start_timeout: float) -> None:
        self._pods = pods
        self._manifest = manifest
        self._identity = identity
        self._log = log
        self._start_timeout = start_timeout
        self._outages = Outages(FIRST_LOOKS, log)
        self._looked = asyncio.Condition()
        self._hurry = asyncio.Event()
        self._pod: Pod | None = None
        self._looks = 0
        self._over = False
        self._told = ""
        self._tail = Tail()

    async def run(self) -> PodEnd:
        """Make the pod, or find the one of an earlier try or another triggerer, and follow it to its end."""
        while True:
            try:
                self._pod = await self._make_or_find()
            except ObjectRefused as error:
                return PodEnd(refusal(error.status, error.answer, f"pod {self._pods.namespace}/{self._identity.name}"))
            end = await self._follow(self._pod)
            inherited = not self._identity.made_by(_annotations(self._pod))
            if end is not None or not inherited:
                return end or PodEnd(failure(None), started=_started(self._pod), tail=self._tail)
            self._log.info("The pod of an earlier try was removed; making another one")

    async def find(self) -> PodEnd | None:
        """Follow the pod to its end if it is there; ``None`` if it is not."""
        pod = await self._patiently(lambda: self._pods.get(self._identity.name))
        if pod is None or not self._identity.same_work(_annotations(pod)):
            return None
        return await self._follow(pod)

    async def remove(self) -> None:
        """Remove the pod, if it is there."""
        await remove(self._pods, self._identity, self._outages)

    async def _make_or_find(self) -> Pod:
        name = self._identity.name
        while True:
            pod = await self._patiently(lambda: self._pods.get(name))
            if pod is None:
                made = await self._patiently(lambda: self._pods.create(self._manifest))
                if made is not None:
                    self._log.info("Made pod %s/%s", self._pods.namespace, name)
                    return made
            elif self._usable(pod):
                self._log.info("Found pod %s/%s, which is %s", self._pods.namespace, name, _phase(pod))
                return pod
            elif not _leaving(pod):
                uid = pod["metadata"]["uid"]
                await self._patiently(lambda: self._pods.delete(name, uid))  # noqa: B023 - awaited before the next turn
            await asyncio.sleep(FIRST_LOOKS)

    def _usable(self, pod: Pod) -> bool:
        notes = _annotations(pod)
        return (
            not _leaving(pod)
            and self._identity.same_work(notes)
            and (self._identity.made_by(notes) or _phase(pod) != "Failed")
        )

    async def _follow(self, pod: Pod) -> PodEnd | None:
        """Follow a pod; ``None`` if it was removed before its end was seen."""
        self._pod = pod
        async with self._streaming():
            ended = await self._until_ended(pod["metadata"]["uid"])
        if isinstance(ended, PodFailure):
            return PodEnd(ended)
        if ended is None:
            return None
        return PodEnd(failure(ended, self._lines), _messages(ended), _started(ended), self._tail)

    async def _until_ended(self, uid: str) -> Pod | PodFailure | None:
        pause = FIRST_LOOKS
        while True:
            pod = await self._patiently(lambda: self._pods.get(self._identity.name))
            if pod is None or pod["metadata"]["uid"] != uid:
                return None
            await self._saw(pod)
            if _phase(pod) in ENDED:
                return pod
            hindrance = self._hindrance(pod)
            if hindrance is not None and hindrance.final:
                return hindrance
            pause = min(pause * 1.5, LATER_LOOKS) if _started(pod) else FIRST_LOOKS
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than a container takes to end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)
            self._hurry.clear()
            await asyncio.sleep(FIRST_LOOKS / 4)

    def _hindrance(self, pod: Pod) -> PodFailure | None:
        found = obstacle(pod)
        if found is not None and found.message != self._told:
            self._log.warning("%s", found.message)
            self._told = found.message
        if _started(pod) or _age(pod) < self._start_timeout:
            return found
        why = found.message if found else "nothing says why"
        message = (
            f"pod {self._pods.namespace}/{self._identity.name} did not start within {self._start_timeout:.0f} s "
            f"([mlplatform] pod_start_timeout): {why}"
        )
        return PodFailure(found.reason if found else "NotStarted", message, lasting=False, final=True)

    @asynccontextmanager
    async def _streaming(self) -> AsyncIterator[None]:
        self._over = False
        task = asyncio.create_task(self._stream())
        try:
            yield
            self._over = True
            await self._saw(self._pod)
            with suppress(TimeoutError):
                await asyncio.wait_for(task, LAST_LINES_SECONDS)
        finally:
            task.cancel()

    async def _stream(self) -> None:
        try:
            await self._stream_all()
        except ServiceRefused as error:
            self._log.error("The pod's log cannot be shown: %s", error)

    async def _stream_all(self) -> None:
        spec = self._manifest["spec"]
        inits = [container["name"] for container in spec["initContainers"]]
        for name in [*inits, *(container["name"] for container in spec["containers"])]:
            if await self._state(name, "running", "terminated"):
                self._tail = Tail()
                await self._stream_container(name, f"[{name}] " if name in inits else "")

    async def _stream_container(self, name: str, prefix: str) -> None:
        last = ""
        while True:
            looks = self._looks
            over = self._over or "terminated" in _states(self._pod).get(name, {})
            try:
                async for line in self._pods.logs(self._identity.name, name, last):
                    if line.time > last:
                        last = line.time
                        self._tail.add(line.text)
                        self._log.info("%s%s", prefix, line.text)
            except ServiceUnavailable as error:
                self._outages.failed(error)
                over = False
            if over:
                return
            self._hurry.set()
            await self._look_after(looks)

    async def _look_after(self, looks: int) -> None:
        async with self._looked:
            await self._looked.wait_for(lambda: self._over or self._looks > looks)

    async def _state(self, container: str, *wanted: str) -> bool:
        """Wait until a container is in one of these states; ``False`` if its pod is over without that."""
        async with self._looked:
            while True:
                if any(state in _states(self._pod).get(container, {}) for state in wanted):
                    return True
                if self._over:
                    return False
                await self._looked.wait()

    async def _saw(self, pod: Pod | None) -> None:
        async with self._looked:
            self._pod = pod
            self._looks += 1
            self._looked.notify_all()

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await patiently(ask, self._outages)

    @property
    def _lines(self) -> list[str]:
        return str(self._tail).splitlines()


def _annotations(pod: Pod | None) -> Mapping[str, str]:
    return (pod or {}).get("metadata", {}).get("annotations") or {}


def _phase(pod: Pod) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def _leaving(pod: Pod) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _age(pod: Pod) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(pod["metadata"]["creationTimestamp"])).total_seconds()


def _statuses(pod: Pod | None) -> list[dict[str, Any]]:
    status = (pod or {}).get("status", {})
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def _states(pod: Pod | None) -> dict[str, dict[str, Any]]:
    return {found["name"]: found.get("state") or {} for found in _statuses(pod)}


def _started(pod: Pod) -> frozenset[str]:
    return frozenset(name for name, state in _states(pod).items() if "running" in state or "terminated" in state)


def _messages(pod: Pod) -> dict[str, str]:
    return {name: state.get("terminated", {}).get("message", "") for name, state in _states(pod).items()}
