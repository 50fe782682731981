"""The pause of a rollout: people are asked, and the candidate is judged meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow.providers.standard.triggers.hitl import HITLTrigger
from airflow.triggers.base import TriggerEvent
from pydantic import BaseModel, ConfigDict

from airflow_mlplatform.exceptions import ProcessFailed
from airflow_mlplatform.triggers.local_rollout import LocalRolloutTrigger
from airflow_mlplatform.triggers.seldon_deploy import SeldonDeployTrigger
from airflow_mlplatform.triggers.task import TaskEnding

if TYPE_CHECKING:
    from airflow_mlplatform.training.provenance import Provenance

__all__ = ["Asked", "LocalStepApprovalTrigger", "SeldonStepApprovalTrigger", "answer_or"]

LOOKS = 30.0
"""Seconds between two looks for an answer; Airflow wakes the task by itself as well."""


class Asked(BaseModel):
    """What people were asked.

    :param ti_id: id of the task instance that asked.
    :param options: what they may say.
    :param defaults: what no answer means.
    :param until: when that counts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ti_id: UUID
    options: tuple[str, ...]
    defaults: tuple[str, ...]
    until: datetime

    async def answer(self) -> TriggerEvent:
        """Wait for the answer, or for the end of the time."""
        airflows = HITLTrigger(
            ti_id=self.ti_id,
            options=list(self.options),
            defaults=list(self.defaults),
            params={},
            timeout_datetime=self.until,
            poke_interval=LOOKS,
        )
        return await anext(aiter(airflows.run()))


async def answer_or(asked: Asked, watch: Awaitable[TaskEnding | None]) -> TriggerEvent:
    """Return the answer; or, if it comes first, that the rollout has ended.

    :param watch: ends with how the rollout failed, or with ``None`` if there is nothing to judge any more.
    """
    answer, watching = asyncio.ensure_future(asked.answer()), asyncio.ensure_future(watch)
    try:
        await asyncio.wait({answer, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done() and (ending := watching.result()):
            return TriggerEvent(ending.model_dump(mode="json"))
        return await answer
    finally:
        for one in (answer, watching):
            one.cancel()
        await asyncio.gather(answer, watching, return_exceptions=True)


class SeldonStepApprovalTrigger(SeldonDeployTrigger):
    """Fires the answer, or that the rollout has failed meanwhile; then what served before is back.

    :param asked: JSON of :class:`Asked`.
    """

    arguments = (*SeldonDeployTrigger.arguments, "asked")

    def __init__(self, asked: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.asked = asked

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event."""
        yield await answer_or(Asked.model_validate(self.asked), self._watch())

    async def work(self, origin: Provenance) -> dict[str, Any]:
        """Judge the candidate until it fails; outages are borne, since nothing is to be done anyway."""
        while True:
            try:
                serving, outcome, url = await self.roll_out(origin)
            except ProcessFailed as error:
                self.log.warning("Nobody looks at the candidate for the moment: %s", error)
                await asyncio.sleep(LOOKS)
            else:
                return await self.tell(origin, serving, outcome, url)

    async def _watch(self) -> TaskEnding | None:
        ending = await self._ended()
        return None if ending.ending == "done" else ending


class LocalStepApprovalTrigger(LocalRolloutTrigger):
    """The same on this machine.

    :param asked: JSON of :class:`Asked`.
    """

    def __init__(self, work: dict[str, Any], asked: dict[str, Any]) -> None:
        super().__init__(work)
        self.asked = asked

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments that make an equal one."""
        path, arguments = super().serialize()
        return path, {**arguments, "asked": self.asked}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event."""
        yield await answer_or(Asked.model_validate(self.asked), self._watch())

    async def _watch(self) -> TaskEnding | None:
        while (end := await self._end()).kind == "lost":
            self.log.warning("Nobody looks at the candidate for the moment: %s", end.message)
            await asyncio.sleep(LOOKS)
        if end.outcome is None:
            return TaskEnding(ending="mistake", message=end.message)
        if end.outcome.result in ("aborted", "stopped"):
            return TaskEnding(ending="mistake", message=f"the rollout was {end.outcome.result}: {end.outcome.why}")
        return None
