"""The waiting half of a deployment on this machine."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from pydantic import ValidationError

from airflow_mlplatform.exceptions import ServingFailed
from airflow_mlplatform.runtime.serving import LocalServing, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["LocalServingTrigger", "read_event"]


class LocalServingTrigger(BaseTrigger):
    """Fires once, when a wish for an endpoint is decided.

    :param state_dir: folder of the local runtime.
    :param address: ``host:port`` on which models are served.
    :param endpoint: name of the endpoint.
    :param generation: the wish.
    :param deadline: when to give up, in seconds since the epoch, so that a restarted triggerer waits no longer.
    :param poll_interval: seconds between two looks.
    """

    def __init__(
        self,
        state_dir: str,
        address: str,
        endpoint: str,
        generation: int,
        deadline: float,
        poll_interval: float = 0.5,
    ) -> None:
        super().__init__()
        self.state_dir = state_dir
        self.address = address
        self.endpoint = endpoint
        self.generation = generation
        self.deadline = deadline
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments that make an equal one."""
        names = ("state_dir", "address", "endpoint", "generation", "deadline", "poll_interval")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until it is decided, or the deadline has passed."""
        serving = LocalServing(Path(self.state_dir), self.address)
        while (outcome := await asyncio.to_thread(serving.outcome, self.endpoint, self.generation)) is None:
            if time.time() >= self.deadline:
                outcome = Outcome(result="lost", message=f"nothing was decided in time; see {serving.folder.path}")
                break
            await asyncio.sleep(self.poll_interval)
        yield TriggerEvent(outcome.model_dump())


def read_event(event: Any) -> Outcome:
    """Read the trigger's event.

    :raises ServingFailed: if it is not understood; that is never a success.
    """
    try:
        return Outcome.model_validate(event)
    except ValidationError as error:
        raise ServingFailed(
            f"the trigger's event {event!r} is not understood ({error.error_count()} problems)"
        ) from error
