"""What a trigger that does the whole work of a task tells the worker that ends it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed

__all__ = ["TaskEnding"]


class TaskEnding(BaseModel):
    """What a worker has to do: end the task as ``done``, ``failed`` or ``mistake`` (no retry), or take it ``over``.

    :param message: what to tell people.
    :param result: what the task leaves in XCom.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ending: Literal["done", "failed", "mistake", "over"]
    message: str = ""
    result: dict[str, JsonValue] | None = None

    @classmethod
    def decode(cls, payload: object, trigger: str) -> TaskEnding:
        """Read an event's payload.

        :param trigger: class of the trigger that should have sent it, for the message.
        :raises ConfigurationError: if it is not understood; that is a failure, never a success.
        """
        try:
            return cls.model_validate(payload)
        except ValidationError as error:
            raise ConfigurationError(
                f"the event {payload!r:.200} is not one of {trigger} ({error.error_count()} problems); let workers and "
                "triggerer run the same version of airflow-mlplatform, then clear the task"
            ) from None

    def result_or_raise(self) -> dict[str, JsonValue]:
        """Return the result of a task that is done.

        :raises ConfigurationError: for a mistake, which no retry mends.
        :raises ProcessFailed: for a failure.
        """
        if self.ending == "mistake":
            raise ConfigurationError(self.message)
        if self.ending == "failed" or self.result is None:
            raise ProcessFailed(self.message)
        return self.result
