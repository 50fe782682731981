"""From bytes to YAML nodes: one node tree a document, each node knowing its file, line and column.

Nodes rather than values are kept, so that a folder's defaults can be merged under a spec and every value still tells
where it was written.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml
from yaml.events import CollectionEndEvent, CollectionStartEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from airflow_mlplatform.specs.problems import Problem

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Chunk", "Unusable", "compose", "count_documents", "merge", "read_chunks", "split"]

MAX_BYTES = 1024 * 1024
MAX_NODES = 100_000
MAX_DEPTH = 60
SEPARATOR = re.compile(rb"^---(?=[ \t\r\n]|$)|^\.\.\.(?=[ \t\r\n]|$)", re.MULTILINE)
SURELY_FLAT = 2000

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unusable(Exception):
    """The file or document cannot be read any further."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True)
class Chunk:
    """One document of a file.

    :param path: the file as problems name it.
    :param index: position in the file, from 0.
    :param text: the document, preceded by as many empty lines as stand before it in the file.
    :param line: the line on which it starts, from 1.
    """

    path: str
    index: int
    text: bytes
    line: int


class NamedBytes(BytesIO):
    """Bytes with a name; the parser puts the name into every mark."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def read_chunks(path: Path, shown: str, root: Path) -> list[Chunk]:
    """Read a file and part it at ``---``, so that a broken document costs no other one.

    :param path: the file.
    :param shown: the file as problems name it.
    :param root: the folder that the file must lie in, links followed.
    :raises Unusable: if the file as a whole cannot be used.
    """

    def unusable(what: str, todo: str, line: int = 1, column: int = 1) -> Unusable:
        return Unusable(Problem(shown, line, column, "", what, todo))

    if not path.resolve().is_relative_to(root.resolve()):
        raise unusable(f"is a link that leaves {root}", "copy what it names into the folder of specs")
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise unusable("is a folder but has the name of a spec", "rename the folder")
        if not stat.S_ISREG(mode):
            raise unusable("is no regular file", "replace it by one")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise unusable(f"cannot be read: {error.strerror}", "check that it exists and its permissions") from None
    if len(data) > MAX_BYTES:
        raise unusable("is larger than 1 MiB", "a spec is small; move data and code out of it")
    return split(data, shown)


def count_documents(path: Path, shown: str, root: Path) -> int:
    """Return how many documents a file holds; one, broken, if it cannot be used as a whole."""
    try:
        return len(read_chunks(path, shown, root))
    except Unusable:
        return 1


def split(data: bytes, shown: str) -> list[Chunk]:
    """Part the bytes of a file into its documents.

    :raises Unusable: if it is not UTF-8 or holds no document.
    """
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        problem = Problem(shown, line, column, "", "is not UTF-8", "save it with the encoding UTF-8")
        raise Unusable(problem) from None
    chunks = list(_parts(data.removeprefix(b"\xef\xbb\xbf"), shown))
    if not chunks:
        raise Unusable(Problem(shown, 1, 1, "", "is empty", "write a spec (mlplatform new) or delete the file"))
    return chunks


def _parts(data: bytes, shown: str) -> Iterator[Chunk]:
    start, index = 0, 0
    for end in [*(match.start() for match in SEPARATOR.finditer(data)), len(data)]:
        part = data[start:end]
        body = part[3:] if part[:3] in (b"---", b"...") else part
        if any(line.strip() and not line.lstrip().startswith((b"#", b"%")) for line in body.splitlines()):
            before = data.count(b"\n", 0, start)
            yield Chunk(shown, index, b"\n" * before + part.replace(b"...", b"   ", part[:3] == b"..."), before + 1)
            index += 1
        start = end


def compose(chunk: Chunk) -> Node:
    """Parse one document into nodes.

    :raises Unusable: for bad YAML, nesting too deep, or aliases that would grow beyond all measure.
    """
    loader = Loader(NamedBytes(chunk.text, chunk.path))
    try:
        _check_depth(chunk)
        node: Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (chunk.line, 1)
        what = f"is no valid YAML: {error.problem or error.context}"
        raise Unusable(Problem(chunk.path, line, column, "", what, "check indentation, quotes and colons")) from None
    except (yaml.YAMLError, RecursionError) as error:
        what = f"is no valid YAML: {str(error).splitlines()[0] if str(error) else 'it nests too deep'}"
        raise Unusable(Problem(chunk.path, chunk.line, 1, "", what, "remove control characters, simplify")) from None
    finally:
        loader.dispose()
    if node is None:
        raise Unusable(Problem(chunk.path, chunk.line, 1, "", "is empty", "write a spec or delete the document"))
    if b"&" in chunk.text:
        _measure(node, chunk)
    return node


def _check_depth(chunk: Chunk) -> None:
    """Refuse deep nesting before libyaml's recursive composer meets it and overflows the stack of the process.

    A level of nesting costs a bracket or a column of indentation, so most files are told to be flat without parsing.
    """
    text = chunk.text
    longest_line = max(map(len, text.split(b"\n")))
    if text.count(b"[") + text.count(b"{") + 2 * longest_line < SURELY_FLAT:
        return
    depth = 0
    for event in yaml.parse(NamedBytes(text, chunk.path), Loader=Loader):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        mark = event.start_mark
        if depth > MAX_DEPTH and mark:
            line, column = mark.line + 1, mark.column + 1
            what = f"nests deeper than {MAX_DEPTH} levels"
            raise Unusable(Problem(chunk.path, line, column, "", what, "a spec is flat; simplify it"))


def _measure(node: Node, chunk: Chunk) -> None:
    """Refuse aliases that contain themselves or would expand beyond all measure; without anchors there are none."""
    sizes: dict[int, int] = {}

    def size(node: Node, depth: int) -> int:
        known = sizes.get(id(node))
        if known == 0 or depth > MAX_DEPTH:
            what = "an alias that contains itself" if known == 0 else f"nests deeper than {MAX_DEPTH} levels"
            raise Unusable(_problem_at(node, chunk, what, "simplify it"))
        if known:
            return known
        sizes[id(node)] = 0
        total = 1 + sum(size(child, depth + 1) for child in children(node))
        if total > MAX_NODES:
            what = f"aliases and lists expand to more than {MAX_NODES} values"
            raise Unusable(_problem_at(node, chunk, what, "a spec is small; use fewer aliases"))
        sizes[id(node)] = total
        return total

    size(node, 0)


def _problem_at(node: Node, chunk: Chunk, what: str, todo: str) -> Problem:
    return Problem(chunk.path, node.start_mark.line + 1, node.start_mark.column + 1, "", what, todo)


def children(node: Node) -> Iterator[Node]:
    """Yield the keys and values, or items, of a node."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, SequenceNode):
        yield from node.value


def merge(over: MappingNode, under: MappingNode) -> MappingNode:
    """Lay a mapping over another one: mappings are merged key by key, anything else replaces."""
    lower = {key.value: (key, value) for key, value in under.value if isinstance(key, ScalarNode)}
    pairs = []
    for key, value in over.value:
        below = lower.pop(key.value, None) if isinstance(key, ScalarNode) else None
        if below and isinstance(value, MappingNode) and isinstance(below[1], MappingNode):
            value = merge(value, below[1])
        pairs.append((key, value))
    return MappingNode(over.tag, pairs + list(lower.values()), over.start_mark, over.end_mark)
