"""What every model of the spec language shares: strictness and the few types that YAML lacks."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, Strict, StringConstraints
from pydantic import WithJsonSchema as JsonSchema

__all__ = [
    "Duration",
    "Items",
    "Model",
    "Name",
    "Text",
    "Uri",
    "exactly_one",
    "is_name",
    "parse_duration",
    "show_duration",
]

T = TypeVar("T")

DURATION_PATTERN = r"^[0-9]+(s|m|h|d|w)$"
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Model(BaseModel):
    """A node of a spec: unknown keys are errors, values keep their YAML type, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, serialize_by_alias=True)


def exactly_one(*keys: str) -> ConfigDict:
    """Tell editors, through the JSON Schema, that exactly one of these keys is wanted."""
    return ConfigDict(json_schema_extra={"oneOf": [{"required": [key]} for key in keys]})


def is_name(text: str) -> bool:
    """Whether a text can name a pipeline."""
    return bool(re.fullmatch(NAME_PATTERN, text)) and len(text) <= 200


def parse_duration(value: Any) -> timedelta:
    """Turn ``90s``, ``10m``, ``6h``, ``7d`` or ``2w`` into a :class:`~datetime.timedelta`.

    :raises ValueError: for anything else, zero included.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and re.match(DURATION_PATTERN, value) and int(value[:-1]) > 0:
        try:
            return timedelta(**{UNITS[value[-1]]: int(value[:-1])})
        except OverflowError:
            pass
    raise ValueError(f"{value!r} is no duration; write a number and a unit: 90s, 10m, 6h, 7d or 2w")


def show_duration(value: timedelta) -> str:
    """Write a duration the way specs do, in the largest unit that keeps it whole."""
    seconds = int(value.total_seconds())
    for unit, size in (("w", 604800), ("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(show_duration, return_type=str),
    JsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["10m", "6h", "7d"]}),
]
Items = Annotated[tuple[T, ...], Strict(False)]
"""A YAML list, kept as a tuple."""
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=200)]
"""A name that is safe as DAG id, file name and label."""
Text = Annotated[str, Field(min_length=1)]
Uri = Annotated[str, Field(min_length=1, examples=["s3://pond/wine", "pond://wine", "file:///data/wine"])]
