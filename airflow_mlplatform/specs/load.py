"""Safe YAML to Spec: the one loading function of the factory, the command line and the tests.

A file may hold several documents; each is loaded by itself, and its problems are all found at once. The
``defaults.yaml`` files between the folder of specs and the file are merged under it, the nearest one winning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from yaml.nodes import MappingNode, Node, ScalarNode

from airflow_mlplatform.exceptions import SpecError
from airflow_mlplatform.specs.alerts import ALERT_PARAM
from airflow_mlplatform.specs.document import Chunk, Unusable, compose, merge, read_chunks, split
from airflow_mlplatform.specs.folder_defaults import FolderDefaults
from airflow_mlplatform.specs.kinds import KINDS, Spec
from airflow_mlplatform.specs.problems import MISSING, UNKNOWN_KEY, Problem, did_you_mean, explain, owner, show_type
from airflow_mlplatform.specs.templates import TemplateChecker
from airflow_mlplatform.specs.values import Values, key_of, locate, show_field

__all__ = ["DEFAULTS_FILE", "Document", "kind_of", "load_document", "load_file", "load_text"]

DEFAULTS_FILE = "defaults.yaml"


@dataclass(frozen=True)
class Document:
    """One document of a spec file: a spec, or the reasons why it is none.

    :param path: the file.
    :param shown: the file as problems name it: relative to the folder of specs.
    :param index: position in the file, from 0.
    :param line: the line on which the document starts.
    :param spec: the spec; ``None`` if there are problems.
    :param problems: everything that is wrong, in the order of the file.
    :param name: the name the document gives itself, also if it is broken otherwise; for telling duplicates.
    :param node: the YAML after merging defaults; its nodes know where they were written.
    """

    path: Path
    shown: str
    index: int
    line: int
    spec: Spec | None
    problems: tuple[Problem, ...]
    name: str | None = None
    node: Node | None = field(default=None, repr=False, compare=False)

    def require(self) -> Spec:
        """Return the spec.

        :raises SpecError: with all problems, if there are any.
        """
        if self.spec is None:
            raise SpecError(self.problems, _line_of(self.path, self.problems[0].line))
        return self.spec


def load_file(path: Path, root: Path | None = None) -> tuple[Document, ...]:
    """Load every document of a spec file; never raises for what the file holds.

    :param path: the file.
    :param root: the folder of specs; problems name the file relative to it, links must not leave it, and defaults are
        looked for from there down. The file's own folder if left out.
    """
    root = root or path.parent
    shown = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    try:
        chunks = read_chunks(path, shown, root)
    except Unusable as error:
        return (Document(path, shown, 0, 1, None, (error.problem,)),)
    layers = _defaults_for(path, root)
    return tuple(_load_chunk(chunk, path, layers) for chunk in chunks)


def load_document(path: Path, index: int = 0, root: Path | None = None) -> Document:
    """Load one document of a spec file.

    :param index: position in the file, from 0.
    """
    documents = load_file(path, root)
    if index < len(documents):
        return documents[index]
    shown = documents[0].shown
    problem = Problem(
        shown, 1, 1, "", f"has no document {index + 1} any more", "wait for the next refresh of the folder"
    )
    return Document(path, shown, index, 1, None, (problem,))


def load_text(text: str | bytes, shown: str = "spec.yaml") -> tuple[Document, ...]:
    """Load specs from text, without defaults: for documentation and editors."""
    path = Path(shown)
    try:
        chunks = split(text.encode() if isinstance(text, str) else text, shown)
    except Unusable as error:
        return (Document(path, shown, 0, 1, None, (error.problem,)),)
    return tuple(_load_chunk(chunk, path, ()) for chunk in chunks)


def kind_of(document: Document) -> str:
    """The kind that a document gives itself, also if it is broken otherwise; ``unknown`` if that is none of ours."""
    if document.node is None:
        return "unknown"
    node = locate(document.node, ("kind",))[0]
    return node.value if isinstance(node, ScalarNode) and node.value in KINDS else "unknown"


@dataclass(frozen=True)
class Layer:
    """One ``defaults.yaml``: its nodes, or the problems that make it useless."""

    node: MappingNode | None
    problems: tuple[Problem, ...]


def _defaults_for(path: Path, root: Path) -> tuple[Layer, ...]:
    """Return the layers of defaults above a file, nearest first."""
    layers = []
    for folder in [path.parent, *path.parent.parents]:
        if not folder.is_relative_to(root):
            break
        candidate = folder / DEFAULTS_FILE
        try:
            stat = candidate.stat()
        except OSError:
            continue
        layers.append(_load_layer(candidate, root, stat.st_mtime_ns, stat.st_size))
    return tuple(layers)


@lru_cache(maxsize=256)
def _load_layer(path: Path, root: Path, mtime_ns: int, size: int) -> Layer:  # noqa: ARG001 - they key the cache
    shown = str(path.relative_to(root))
    try:
        node = compose(read_chunks(path, shown, root)[0])
    except Unusable as error:
        return Layer(None, (error.problem,))
    values = Values(templates=None)
    data = values.of(node)
    problems = [*values.problems, *_model_problems(FolderDefaults, data, node)[1]]
    if not isinstance(node, MappingNode):
        return Layer(None, tuple(problems))
    mergeable = [(key, value) for key, value in node.value if key.value != "apiVersion"]
    return Layer(MappingNode(node.tag, mergeable, node.start_mark, node.end_mark), tuple(problems))


def _load_chunk(chunk: Chunk, path: Path, layers: Sequence[Layer]) -> Document:
    try:
        node = compose(chunk)
    except Unusable as error:
        return Document(path, chunk.path, chunk.index, chunk.line, None, (error.problem,))
    inherited = [problem for layer in layers for problem in layer.problems]
    for layer in layers:
        if layer.node and isinstance(node, MappingNode):
            node = merge(node, layer.node)
    values = Values(TemplateChecker(_param_names(node), dated=_is_dated(node)))
    data = values.of(node)
    spec, problems = _validate(data, node)
    unreadable = {problem.field for problem in values.problems}
    problems = [problem for problem in problems if problem.field not in unreadable]
    everything = tuple(dict.fromkeys(sorted([*inherited, *values.problems, *problems])))
    name = data.get("name") if isinstance(data, dict) else None
    return Document(
        path=path,
        shown=chunk.path,
        index=chunk.index,
        line=chunk.line,
        spec=None if everything else spec,
        problems=everything,
        name=name if isinstance(name, str) else None,
        node=node,
    )


def _param_names(node: Node) -> list[str]:
    params = locate(node, ("params",))[0]
    own = [key.value for key, _ in params.value] if isinstance(params, MappingNode) and params is not node else []
    return [*own, ALERT_PARAM] if key_of(node, ("on_alert",)) else own


def _is_dated(node: Node) -> bool:
    """Whether runs have a logical date: not those that start by an asset or a registry change."""
    schedule, found = locate(node, ("schedule",), keep_last=False)
    return not found or not isinstance(schedule, MappingNode)


def _validate(data: Any, node: Node) -> tuple[Spec | None, list[Problem]]:
    if not isinstance(data, dict):
        return None, [
            _problem(
                node,
                (),
                f"must be a mapping (key: value) but is {show_type(data)}",
                "begin with apiVersion: mlplatform/v1 and kind: …",
            )
        ]
    kind = data.get("kind")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        what = MISSING if "kind" not in data else f"{show_type(kind)} is not one of {', '.join(KINDS)}"
        todo = f"write one of {', '.join(KINDS)}" if "kind" not in data else did_you_mean(kind, KINDS)
        foreign = not str(data.get("apiVersion", "")).startswith("mlplatform")
        hint = " (if it is no spec, list it in .airflowignore)" if foreign else ""
        return None, [_problem(locate(node, ("kind",))[0], ("kind",), what, todo + hint)]
    return _model_problems(model, data, node)


def _model_problems(model: type[Any], data: Any, node: Node) -> tuple[Any, list[Problem]]:
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        return None, _without_echoes([_translate(details, model, node) for details in error.errors(include_url=False)])


def _translate(details: Any, model: type[BaseModel], root: Node) -> Problem:
    what, todo = explain(details, owner(model, details["loc"][:-1]))
    keys_own_error = details["type"] in ("missing", "extra_forbidden")
    node, location = locate(root, details["loc"], keep_last=keys_own_error)
    key, colon, rest = what.partition(": ")
    if colon and details["type"] == "value_error" and key_of(root, (*location, key)) is not None:
        location, what = (*location, key), rest
        node = key_of(root, location) or node
    if details["type"] == "extra_forbidden":
        node = key_of(root, location) or node
    return _problem(node, location, what, todo)


def _without_echoes(problems: list[Problem]) -> list[Problem]:
    """Drop "missing: uri" where "uir: did you mean uri?" says it already."""
    meant = {
        f"{problem.field.rpartition('.')[0]}.{problem.todo.split(chr(34))[1]}".removeprefix(".")
        for problem in problems
        if problem.what == UNKNOWN_KEY and problem.todo.startswith("did you mean")
    }
    return [problem for problem in problems if not (problem.what == MISSING and problem.field in meant)]


def _problem(node: Node, location: tuple[str | int, ...], what: str, todo: str) -> Problem:
    mark = node.start_mark
    return Problem(mark.name, mark.line + 1, mark.column + 1, show_field(location), what, todo)


def _line_of(path: Path, line: int) -> str:
    try:
        return path.read_text("utf-8", errors="replace").splitlines()[line - 1]
    except (OSError, IndexError):
        return ""
