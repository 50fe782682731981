"""Arguments of tasks that hold a part of a spec as JSON, written by hand or rendered."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from airflow_mlplatform.exceptions import ConfigurationError

__all__ = ["read_argument"]

M = TypeVar("M", bound=BaseModel)


def read_argument(kind: type[M], name: str, value: object) -> M:
    """Read an argument; templates turn numbers into text, so text that is a number will do.

    :param kind: what it is.
    :param name: how messages call it.
    :param value: the argument, or one that has been read already.
    :raises ConfigurationError: with every problem. It does not show values: a template may have put a secret there.
    """
    try:
        return kind.model_validate(value, strict=False)
    except ValidationError as error:
        found = error.errors(include_url=False)
        problems = "; ".join(f"{'.'.join((name, *map(str, one['loc'])))}: {one['msg']}" for one in found)
        raise ConfigurationError(f"{problems}; correct the arguments of the task") from None
