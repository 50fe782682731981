"""From YAML nodes to plain values, collecting every problem on the way; and back from a field to its line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from airflow_mlplatform.specs.document import MAX_DEPTH
from airflow_mlplatform.specs.problems import Location, Problem
from airflow_mlplatform.specs.templates import TemplateChecker

__all__ = ["Values", "key_of", "locate", "plain", "show_field"]

PREFIX = "tag:yaml.org,2002:"
SCALARS = {
    "null": SafeConstructor.construct_yaml_null,
    "bool": SafeConstructor.construct_yaml_bool,
    "int": SafeConstructor.construct_yaml_int,
    "float": SafeConstructor.construct_yaml_float,
    "timestamp": SafeConstructor.construct_yaml_timestamp,
}
TEXT = ("str", "value", "merge")
NEVER_RENDERED = ("description", "title")


def show_field(location: Location) -> str:
    """Write a location as authors do: ``transform[1].sql``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


class Values:
    """Turns the nodes of one document into plain values.

    :param templates: checks the Jinja in texts; ``None`` where nothing is rendered.
    """

    def __init__(self, templates: TemplateChecker | None) -> None:
        self.problems: list[Problem] = []
        self._templates = templates
        self._scalars = SafeConstructor()

    def of(self, node: Node, location: Location = ()) -> Any:
        """Return the value of a node; what is wrong in it goes to :attr:`problems`."""
        if isinstance(node, ScalarNode):
            return self._scalar(node, location)
        if len(location) > MAX_DEPTH:
            return self._add(node, location[:1], f"nests deeper than {MAX_DEPTH} levels", "a spec is flat; simplify it")
        if isinstance(node, SequenceNode) and node.tag == f"{PREFIX}seq":
            return [self.of(item, (*location, index)) for index, item in enumerate(node.value)]
        if isinstance(node, MappingNode) and node.tag == f"{PREFIX}map":
            return self._mapping(node, location)
        return self._refuse_tag(node, location)

    def _mapping(self, node: MappingNode, location: Location) -> dict[str, Any]:
        result: dict[str, Any] = {}
        first: dict[str, Node] = {}
        for key, value in pairs(node):
            if not isinstance(key, ScalarNode) or key.tag.removeprefix(PREFIX) not in (*TEXT, *SCALARS):
                self._add(key, location, "a key must be a single word", "write key: value")
            elif key.value in first:
                where = f"{first[key.value].start_mark.line + 1}"
                self._add(key, (*location, key.value), f"stands twice, first in line {where}", "keep one of the two")
            else:
                first[key.value] = key
                result[key.value] = self.of(value, (*location, key.value))
        for key, value in inherited(node):
            if key.value not in result:
                result[key.value] = self.of(value, (*location, key.value))
        return result

    def _scalar(self, node: ScalarNode, location: Location) -> Any:
        kind = node.tag.removeprefix(PREFIX)
        if kind in TEXT:
            return self._text(node, location)
        if kind not in SCALARS:
            return self._refuse_tag(node, location)
        try:
            value = SCALARS[kind](self._scalars, node)
        except (ValueError, OverflowError, KeyError, yaml.YAMLError):
            return self._add(
                node, location, f"{node.value[:60]!r} is no valid {kind}", "correct it, or put it in quotes"
            )
        if isinstance(value, (int, float)) and abs(value) > 1e300:
            return self._add(node, location, f"{node.value[:60]!r} is out of range", "write a smaller number")
        return value

    def _text(self, node: ScalarNode, location: Location) -> str:
        if self._templates and not (location and location[-1] in NEVER_RENDERED):
            for what, todo in self._templates.problems(node.value):
                self._add(node, location, what, todo)
        return str(node.value)

    def _refuse_tag(self, node: Node, location: Location) -> None:
        tag = node.tag.replace(PREFIX, "!!")
        self._add(node, location, f"the tag {tag} is not allowed", "write plain values: text, numbers, lists, mappings")

    def _add(self, node: Node, location: Location, what: str, todo: str) -> None:
        mark = node.start_mark
        problem = Problem(mark.name, mark.line + 1, mark.column + 1, show_field(location), what, todo)
        self.problems.append(problem)


def pairs(node: MappingNode) -> Iterator[tuple[Node, Node]]:
    """Yield the pairs that the mapping itself writes."""
    return ((key, value) for key, value in node.value if key.tag != f"{PREFIX}merge")


def inherited(node: MappingNode) -> Iterator[tuple[Node, Node]]:
    """Yield the pairs that ``<<`` brings in, nearest first."""
    for key, value in node.value:
        if key.tag == f"{PREFIX}merge":
            for source in value.value if isinstance(value, SequenceNode) else [value]:
                if isinstance(source, MappingNode):
                    yield from pairs(source)
                    yield from inherited(source)


def locate(node: Node, location: Location, *, keep_last: bool = True) -> tuple[Node, Location]:
    """Find the node that a location of pydantic means, and the location as the author wrote it.

    Pydantic names union members in its locations; what the document does not have is passed over.

    :param keep_last: keep the last part although the document lacks it: for a key that is missing.
    """
    found: list[str | int] = []
    for depth, part in enumerate(location):
        last = depth == len(location) - 1
        key, value = _child(node, part)
        if value is None or key is None:
            if last and keep_last and isinstance(node, MappingNode):
                return node, (*found, part)
            continue
        found.append(part)
        node = value
    return node, tuple(found)


def key_of(node: Node, location: Location) -> Node | None:
    """Return the key node at a location, if the document has it."""
    for part in location[:-1]:
        child = _child(node, part)[1]
        if child is None:
            return None
        node = child
    return _child(node, location[-1])[0] if location else None


def _child(node: Node, part: str | int) -> tuple[Node | None, Node | None]:
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    if isinstance(node, MappingNode):
        for key, value in [*pairs(node), *inherited(node)]:
            if isinstance(key, ScalarNode) and key.value == part:
                return key, value
    return None, None


def plain(value: Any) -> Any:
    """Return a value as JSON has it: days as text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value
