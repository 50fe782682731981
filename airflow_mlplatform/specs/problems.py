"""A problem of a spec file, and how pydantic's errors become problems that finish the sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

__all__ = ["MISSING", "UNKNOWN_KEY", "Problem", "did_you_mean", "explain", "owner", "show_type"]

Location = tuple[str | int, ...]

MISSING = "missing"
UNKNOWN_KEY = "unknown key"
TYPE_WORDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "tuple_type": "a list ([a, b] or - a)",
    "list_type": "a list ([a, b] or - a)",
    "date_type": "a day (2026-01-01)",
}


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong in a spec file.

    :param path: the file, relative to the folder of specs.
    :param line: line, from 1.
    :param column: column, from 1.
    :param field: dotted path of the field, empty for the file as a whole.
    :param what: what is wrong.
    :param todo: what to do about it.
    :param severity: an error costs the spec its DAG, a warning does not.
    """

    path: str
    line: int
    column: int
    field: str
    what: str
    todo: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        field = f" {self.field}:" if self.field else ":"
        warning = " warning:" if self.severity == "warning" else ""
        return f"{self.path}:{self.line}:{self.column}{field}{warning} {self.what}; {self.todo}"

    def as_dict(self) -> dict[str, Any]:
        """Return the problem as JSON-able fields, for ``validate --format json``."""
        return asdict(self)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Suggest the nearest known word, or list them all."""
    words = list(known)
    near = difflib.get_close_matches(str(word), words, n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else f"known here: {', '.join(words)}"


def show_type(value: Any) -> str:
    """Name a YAML value the way its author thinks of it."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"{str(value).lower()} (true or false)"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, (list, tuple)) else f"a {type(value).__name__} ({value})"


def explain(error: ErrorDetails, model: type[BaseModel] | None) -> tuple[str, str]:
    """Say in words what is wrong and what to do.

    :param error: one entry of ``ValidationError.errors()``.
    :param model: the model whose field is wrong, if it could be told: its fields are the known keys.
    """
    kind, value, context = error["type"], error.get("input"), error.get("ctx", {})
    fields = {(field.alias or name): field for name, field in model.model_fields.items()} if model else {}
    if kind == "extra_forbidden":
        return UNKNOWN_KEY, did_you_mean(error["loc"][-1], fields)
    if kind == "missing":
        field = fields.get(str(error["loc"][-1]))
        return MISSING, f"add it: {(field.description if field else None) or 'it is required'}"
    if kind in ("literal_error", "enum"):
        expected = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        return f"{show_type(value)} is not one of {', '.join(expected)}", did_you_mean(value, expected)
    if kind in TYPE_WORDS:
        advice = "put it in quotes" if kind == "string_type" and isinstance(value, (int, float, bool)) else "change it"
        return f"must be {TYPE_WORDS[kind]} but is {show_type(value)}", advice
    if kind == "value_error":
        what, _, todo = str(context["error"]).partition("; ")
        return what, todo or "change it"
    if kind == "string_pattern_mismatch":
        return f"{show_type(value)} does not match {context['pattern']}", "change it"
    return _in_pydantics_words(error), "change it"


def _in_pydantics_words(error: ErrorDetails) -> str:
    message = error["msg"].replace("Input should", "should").replace("String should", "the text should")
    message = message.replace("Tuple should", "the list should").replace("Value should", "the value should")
    return message[:1].lower() + message[1:]


def owner(model: type[BaseModel], location: Location) -> type[BaseModel]:
    """Follow a location of pydantic from the root model to the model that owns what lies there."""
    candidates = [model]
    for part in location:
        fields = [field for candidate in candidates if (field := _field(candidate, part))]
        named = [candidate for candidate in candidates if candidate.__name__ == part]
        below = [found for field in fields for found in _models_in(field.annotation)]
        candidates = below or named or candidates
    return candidates[0]


def _field(model: type[BaseModel], part: str | int) -> FieldInfo | None:
    return next((info for name, info in model.model_fields.items() if part in (name, info.alias)), None)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)
