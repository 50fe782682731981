"""One version of an application, rolled out until it is well; a bad one is taken back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_mlplatform.clients.kubernetes_api import ObjectRefused
from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed, ServiceRefused
from airflow_mlplatform.runtime.app_deployment import VERSION
from airflow_mlplatform.runtime.app_rollout import Progress, progress, started_again, unexplained
from airflow_mlplatform.runtime.app_versions import Memory, differs, is_ours, remember
from airflow_mlplatform.runtime.process_output import Tail
from airflow_mlplatform.triggers.outages import Outages
from airflow_mlplatform.triggers.pod import patiently

if TYPE_CHECKING:
    from airflow_mlplatform.clients.deployments import Deployment, Deployments
    from airflow_mlplatform.clients.kubernetes import Pods

__all__ = ["Health", "Rollout"]

T = TypeVar("T")

LOOKS = 2.0
LAST_LINES = 50
Health = Callable[[], Awaitable[str | None]]
"""What beside its pods makes a version well: tells what is missing, ``None`` for nothing."""


class BadVersion(Exception):
    """A version that will not become well.

    :param lasting: no retry can mend it.
    """

    def __init__(self, why: str, *, lasting: bool, seen: Progress) -> None:
        super().__init__(why)
        self.lasting = lasting
        self.seen = seen


@dataclass
class Rollout:
    """The Deployment of an application.

    :param deployments: those of its namespace.
    :param pods: those of its namespace.
    :param name: its name.
    :param log: the task's log, which is told what is missing whenever that changes.
    """

    deployments: Deployments
    pods: Pods
    name: str
    log: Any
    _told: str = field(default="", init=False)
    _outages: Outages = field(init=False)
    _excused: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._outages = Outages(LOOKS, self.log)

    async def run(self, manifest: Mapping[str, Any], seconds: float, attempt: str, health: Health) -> str:
        """Make the Deployment what the manifest says and wait until that version is well.

        What an earlier try or another triggerer applied is found and waited for. A version that is not well in time, or
        cannot become so, is replaced by the former one; the first one loses its pods and stays to tell why.

        :param seconds: time that a version has from when it was applied.
        :param attempt: the same for one try of one task.
        :param health: asked once all pods are there.
        :return: what was done: ``unchanged``, ``created`` or ``updated``.
        :raises ProcessFailed: if the version is bad; tells the end of its log.
        :raises ConfigurationError: if it cannot be well, ever.
        """
        there = await self._find()
        memory = Memory.of(there)
        if memory.failed and memory.failed["by"] == attempt:
            raise await self._taken_back(memory.failed)
        wished = remember(manifest, memory)
        if there is not None and not differs(there, await self._apply(wished, dry_run=True)):
            done = "unchanged"
            current = memory if memory.good != manifest["spec"] else replace(memory, since=datetime.now(UTC))
        else:
            done, current = "updated" if memory.good else "created", memory.fresh()
            await self._apply(remember(manifest, current))
            self.log.info("Applied deployment %s/%s: %s", self.deployments.namespace, self.name, done)
        try:
            await self._until_well(_version(manifest), current, seconds, health)
        except BadVersion as error:
            if current.good == manifest["spec"]:
                raise ProcessFailed(f"{self.name}, which is as it was when it was well, is not now: {error}") from error
            raise await self._take_back(error, manifest, current, attempt) from error
        if current.good != manifest["spec"]:
            await self._apply(remember(manifest, replace(current, good=manifest["spec"])))
        return done

    async def remove(self) -> bool:
        """Remove the Deployment and wait until its pods have gone.

        :return: whether there was one.
        """
        there = await self._find()
        if there is None:
            return False
        selector = there["spec"]["selector"]["matchLabels"]
        await self._ask(lambda: self.deployments.delete(self.name, there["metadata"]["uid"]))
        while not await self._gone(there["metadata"]["uid"], selector):  # noqa: ASYNC110 - only Kubernetes knows
            await asyncio.sleep(LOOKS)
        self.log.info("Removed deployment %s/%s", self.deployments.namespace, self.name)
        return True

    async def _gone(self, uid: str, selector: Mapping[str, str]) -> bool:
        there = await self._ask(lambda: self.deployments.get(self.name))
        if there is not None and there["metadata"]["uid"] == uid:
            return False
        left = await self._ask(lambda: self.pods.select(selector))
        if left:
            self._tell(f"{len(left)} pods are ending")
        return not left

    async def _find(self) -> Deployment | None:
        there = await self._ask(lambda: self.deployments.get(self.name))
        if there is not None and there["metadata"].get("deletionTimestamp"):
            self._tell("waiting for the removal of the former deployment")
            await asyncio.sleep(LOOKS)
            return await self._find()
        if there is not None and not is_ours(there):
            raise ConfigurationError(
                f"deployment {self.deployments.namespace}/{self.name} is there and was not made by airflow-mlplatform; "
                "choose another name, or remove it"
            )
        return there

    async def _apply(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> Deployment:
        try:
            return await self._ask(lambda: self.deployments.apply(manifest, dry_run=dry_run))
        except ObjectRefused as error:
            if error.status == 403:
                raise
            raise ConfigurationError(f"{error}; correct the app or defaults of the spec") from error

    async def _until_well(self, version: str, memory: Memory, seconds: float, health: Health) -> None:
        while True:
            seen = await self._look(version)
            missing = await self._missing(seen, health)
            if missing is None:
                return
            self._tell(missing)
            if seen.failure:
                raise BadVersion(seen.failure.message, lasting=seen.failure.lasting, seen=seen)
            if memory.since and (datetime.now(UTC) - memory.since).total_seconds() > seconds + self._excused:
                raise BadVersion(f"it was not well within {seconds:.0f} s: {missing}", lasting=False, seen=seen)
            await asyncio.sleep(LOOKS)

    async def _missing(self, seen: Progress, health: Health) -> str | None:
        return await self._ask(health) if seen.complete else seen.account

    async def _look(self, version: str) -> Progress:
        there = await self._ask(lambda: self.deployments.get(self.name))
        if there is None:
            raise ProcessFailed(f"deployment {self.name} was removed by somebody while it was rolled out")
        if _version(there) != version:
            raise ProcessFailed(f"another version of deployment {self.name} was applied while this one was rolled out")
        selector = {**there["spec"]["selector"]["matchLabels"], VERSION: version}
        pods = await self._ask(lambda: self.pods.select(selector))
        seen = progress(there, pods)
        return seen if seen.complete else replace(seen, account=seen.account + await self._events(unexplained(pods)))

    async def _events(self, pod: Mapping[str, Any] | None) -> str:
        if pod is None:
            return ""
        name = pod["metadata"]["name"]
        try:
            warnings = await self._ask(lambda: self.pods.warnings(name))
        except ServiceRefused as error:
            warnings = [f"why is not known: {error}"]
        return f"; pod {name} has not started: {warnings[-1]}" if warnings else ""

    async def _take_back(
        self, bad: BadVersion, manifest: Mapping[str, Any], memory: Memory, attempt: str
    ) -> ProcessFailed | ConfigurationError:
        why = f"the new version of {self.name} is bad: {bad}{await self._log_of(bad.seen)}"
        self.log.error("%s", why)
        failed = {"by": attempt, "why": why, "lasting": bad.lasting}
        former = {**manifest, "spec": memory.good or {**manifest["spec"], "replicas": 0}}
        await self._apply(remember(former, replace(memory.fresh(), failed=failed)))
        return await self._taken_back(failed)

    async def _taken_back(self, failed: Mapping[str, Any]) -> ProcessFailed | ConfigurationError:
        """Wait until the former version, or none, is there again and return what to raise."""
        there = await self._find()
        if there is None:
            return _failure(f"{failed['why']}\nSomebody has removed it.", lasting=bool(failed.get("lasting")))
        memory, deadline = Memory.of(there), float(there["spec"].get("progressDeadlineSeconds", 600))
        back = "The former version is back." if memory.good else "It was the first version; its pods are gone."
        try:
            await self._until_well(_version(there), memory, deadline, _nothing_more)
        except BadVersion as error:
            back = f"The former version was put back, but is not well either: {error}"
        return _failure(f"{failed['why']}\n{back}", lasting=bool(failed.get("lasting")))

    async def _log_of(self, seen: Progress) -> str:
        """The end of the log of the pod that failed, if nothing else shows it."""
        if seen.pod is None or not seen.container or (seen.failure and "last lines" in seen.failure.message):
            return ""
        name = seen.pod["metadata"]["name"]
        try:
            lines = await self.pods.last_lines(
                name, seen.container, LAST_LINES, former=started_again(seen.pod, seen.container)
            )
        except ServiceRefused as error:
            return f"\nIts log cannot be shown: {error}"
        tail = Tail()
        for line in lines:
            tail.add(line)
        return f"\nThe last lines of {name}:\n{tail}" if str(tail) else ""

    async def _ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Wait out an outage, which is not the version's fault and does not count against its time."""
        began = time.monotonic()
        answer = await patiently(ask, self._outages)
        self._excused += time.monotonic() - began
        return answer

    def _tell(self, account: str) -> None:
        if account != self._told:
            self.log.info("%s", account)
            self._told = account


async def _nothing_more() -> None:
    return None


def _version(deployment: Mapping[str, Any]) -> str:
    return str(deployment["spec"]["template"]["metadata"]["labels"][VERSION])


def _failure(message: str, *, lasting: bool) -> ProcessFailed | ConfigurationError:
    return (ConfigurationError if lasting else ProcessFailed)(message)
