"""A throw-away SeldonDeployment, from its making to its removal."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx

from airflow_mlplatform.exceptions import CheckFailed, ProcessFailed, ServiceUnavailable
from airflow_mlplatform.runtime.pod_failure.facts import statuses
from airflow_mlplatform.serving.inference import predictions_in, question, reason_in
from airflow_mlplatform.serving.misfit import causes, differences
from airflow_mlplatform.serving.ready import readiness
from airflow_mlplatform.serving.throwaway import OWNER, PURPOSE, expired
from airflow_mlplatform.serving.view import open_view
from airflow_mlplatform.steps.preflight import check_predictions
from airflow_mlplatform.triggers.outages import Outages
from airflow_mlplatform.triggers.pod import patiently

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_mlplatform.hooks.seldon import SeldonCluster
    from airflow_mlplatform.serving.seen import Failure, Seen
    from airflow_mlplatform.serving.throwaway import ThrowAway
    from airflow_mlplatform.steps.preflight import ModelCard

__all__ = ["Trial", "remove"]

LOOKS = 2.0
LAST_LINES = 200
SHOWN_LINES = 15
# What may keep others from removing it is a triggerer that is away, not one that works.
SPARE = timedelta(minutes=30)


async def remove(cluster: SeldonCluster, name: str, owner: str, outages: Outages) -> None:
    """Remove a throw-away, with all that the operator made of it; nothing happens if it is not there.

    :param name: its name.
    :param owner: key of the task that made it.
    """
    live = await patiently(lambda: cluster.seldon.get(name), outages)
    if live is not None and live["metadata"].get("labels", {}).get(OWNER) == owner:
        await patiently(lambda: cluster.seldon.delete(name, live["metadata"]["uid"]), outages)


@dataclass(frozen=True)
class Crash:
    """A container that ended though it should not have.

    :param times: how often.
    :param runs_again: whether it was started again, so that its former log tells why.
    """

    times: int
    runs_again: bool


def crashed(pod: Mapping[str, Any], container: str) -> Crash | None:
    """Return how a container of a pod crashed; ``None`` if it did not."""
    status = next((one for one in statuses(pod) if one.get("name") == container), {})
    now, restarts = status.get("state") or {}, int(status.get("restartCount") or 0)
    if "running" in now:
        return Crash(restarts, runs_again=True) if restarts else None
    ended = now.get("terminated") or (status.get("lastState") or {}).get("terminated")
    return Crash(restarts + 1, runs_again=False) if ended else None


@dataclass
class Trial:
    """One model, tried in the servers that a spec describes.

    :param cluster: the namespace of the spec.
    :param thrown: what is made, asked and removed.
    :param card: what the model says of itself.
    :param log: the task's log.
    """

    cluster: SeldonCluster
    thrown: ThrowAway
    card: ModelCard
    log: Any
    _told: str = field(default="", init=False)
    _outages: Outages = field(init=False)
    _crashes: dict[str, Crash | None] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._outages = Outages(LOOKS, self.log)

    async def run(self, seconds: float) -> tuple[int | None, float]:
        """Make it, wait until its servers are up, ask the model its own input example and check the answer.

        :param seconds: time that the answer may take.
        :return: how many predictions there are, and how many seconds the answer took.
        :raises CheckFailed: if the model cannot be served like this.
        :raises ProcessFailed: if that did not come out; another try may help.
        """
        ready = self.thrown.serving.ready_timeout
        since = await self.make(ready + timedelta(seconds=seconds))
        await self.until_ready(since + ready)
        found = await self.ask(seconds)
        for remark in await self.remarks():
            self.log.warning("It works, but %s", remark)
        return found

    async def make(self, lasting: timedelta) -> datetime:
        """Make it; what an earlier try left is gone on with, what others left is removed.

        :param lasting: how long it is needed at most.
        :return: since when it is there.
        """
        await self._clean_up()
        while await self._ending():
            self._tell("waiting for the removal of an earlier one")
            await asyncio.sleep(LOOKS)
        manifest = self.thrown.manifest(datetime.now(UTC) + lasting + SPARE)
        live = await patiently(lambda: self.cluster.seldon.apply(manifest), self._outages)
        self.log.info("Trying %s in %s/%s", self.thrown.model, self.cluster.seldon.namespace, self.thrown.name)
        return datetime.fromisoformat(live["metadata"]["creationTimestamp"])

    async def until_ready(self, until: datetime) -> None:
        """Wait until its servers are up.

        :raises CheckFailed: if they will not be, ever.
        :raises ProcessFailed: if they are not in time, or another try may help.
        """
        while True:
            try:
                return await self._watch(until)
            except ServiceUnavailable as error:
                self._outages.failed(error)
                await asyncio.sleep(self._outages.pause)

    async def ask(self, seconds: float) -> tuple[int | None, float]:
        """Ask it the model's own input example and check the answer.

        :param seconds: time that it has to answer.
        :return: how many predictions there are, and how many seconds the answer took.
        :raises CheckFailed: if the answer is wrong.
        :raises ProcessFailed: if there is none.
        """
        asked = question(self.card, self.thrown.protocol, self.thrown.node)
        answer, took = await self._post(asked.path, asked.body, seconds)
        if answer.status_code != 200:
            raise await self._refused(answer)
        predictions = predictions_in(self.thrown.protocol, answer.content, self.card)
        return check_predictions(self.card, predictions), took

    async def remarks(self) -> list[str]:
        """Return how image and model differ, though it works."""
        pods = await patiently(lambda: self.cluster.pods.select({OWNER: self.thrown.owner}), self._outages)
        return differences([line for pod in pods for line in await self._lines(pod["metadata"]["name"])])

    async def _clean_up(self) -> None:
        for left in await patiently(lambda: self.cluster.seldon.labelled(PURPOSE), self._outages):
            if expired(left, datetime.now(UTC)):
                name, uid = left["metadata"]["name"], left["metadata"]["uid"]
                self.log.info("Removing %s, which was left behind", name)
                await self.cluster.seldon.delete(name, uid)

    async def _ending(self) -> bool:
        live = await patiently(lambda: self.cluster.seldon.get(self.thrown.name), self._outages)
        return live is not None and bool(live["metadata"].get("deletionTimestamp"))

    async def _watch(self, until: datetime) -> None:
        async with open_view(self.cluster.seldon, self.thrown.name) as view:
            self._outages.answered()
            while True:
                found = readiness(view.seen)
                if found.failure:
                    raise await self._failed(found.failure)
                if found.ready:
                    return
                await self._look_at_crashes(view.seen, found.account)
                self._tell(found.account)
                if datetime.now(UTC) >= until:
                    raise await self._late(view.seen, found.account)
                await view.changed(until)

    async def _look_at_crashes(self, seen: Seen, account: str) -> None:
        """Wait no longer for a server that crashes because image and model do not fit."""
        crashes = {one["metadata"]["name"]: crashed(one, self.thrown.node) for one in seen.pods}
        if sum(map(bool, crashes.values())) == 0 or crashes == self._crashes:
            return
        self._crashes = crashes
        for pod, crash in crashes.items():
            lines = await self._lines(pod, former=crash.runs_again) if crash else ()
            if causes(lines, self.card.python):
                raise self._unfit(account, lines)

    async def _failed(self, failure: Failure) -> CheckFailed | ProcessFailed:
        lines = await self._lines(failure.pod, failure.container, former=failure.former) if failure.pod else []
        return self._unfit(failure.message, lines, lasting=failure.lasting)

    async def _late(self, seen: Seen, account: str) -> CheckFailed | ProcessFailed:
        lines = [line for pod in seen.pods for line in await self._lines(pod["metadata"]["name"])]
        return self._unfit(f"its servers are not up in time: {account}", lines)

    async def _refused(self, answer: httpx.Response) -> CheckFailed:
        reason = reason_in(answer.content)
        advice = ""
        if self.thrown.protocol == "seldon" and "missing inputs" in reason:
            advice = "; the names of its columns get lost on the way: set serving.parameters: {xtype: DataFrame}"
        unfit = [*causes(reason.splitlines(), self.card.python), *await self.remarks()]
        told = f"it answers its own input example with HTTP {answer.status_code}: {reason}{advice}"
        return CheckFailed(". ".join([*unfit, told]))

    def _unfit(self, message: str, lines: Sequence[str], *, lasting: bool = False) -> CheckFailed | ProcessFailed:
        """What is wrong with the servers, the likeliest reason first."""
        found = causes([*lines, *message.splitlines()], self.card.python)
        shown = "\n".join(lines[-SHOWN_LINES:])
        told = ". ".join([*found, *differences(lines), message])
        told += f"\nThe end of the server's log:\n{shown}" if shown and shown not in message else ""
        return CheckFailed(told) if lasting or found else ProcessFailed(told)

    async def _post(self, path: str, body: dict[str, Any], seconds: float) -> tuple[httpx.Response, float]:
        until = time.monotonic() + seconds
        async with httpx.AsyncClient(base_url=self.thrown.url, trust_env=False, timeout=seconds) as client:
            while True:
                started = time.monotonic()
                try:
                    answer = await client.post(path, json=body)
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    # A Service takes a moment to know of a pod that has become ready.
                    if started + LOOKS > until:
                        raise self._unreachable(error) from error
                    await asyncio.sleep(LOOKS)
                except httpx.TimeoutException:
                    raise CheckFailed(f"it did not answer its own input example within {seconds:g} s") from None
                except httpx.TransportError as error:
                    raise ProcessFailed(f"it broke off while it answered its own input example: {error}") from error
                else:
                    return answer, time.monotonic() - started

    def _unreachable(self, error: httpx.TransportError) -> ProcessFailed:
        why = str(error) or type(error).__name__
        return ProcessFailed(
            f"{self.thrown.url} cannot be reached from here: {why}; the triggerer must run in the cluster, and network "
            f"policies must let it reach namespace {self.cluster.seldon.namespace}"
        )

    async def _lines(self, pod: str, container: str = "", *, former: bool = False) -> Sequence[str]:
        name = container or self.thrown.node
        return await patiently(
            lambda: self.cluster.pods.last_lines(pod, name, LAST_LINES, former=former), self._outages
        )

    def _tell(self, account: str) -> None:
        if account != self._told:
            self._told = account
            self.log.info("%s", account)
