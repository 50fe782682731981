"""``mlplatform``: validate · schema · render · new · demo."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from airflow_mlplatform import __version__
from airflow_mlplatform.exceptions import MlplatformError
from airflow_mlplatform.factory.discover import load_folder
from airflow_mlplatform.factory.references import check_references
from airflow_mlplatform.specs.base import is_name
from airflow_mlplatform.specs.kinds import KINDS
from airflow_mlplatform.specs.load import Document, load_file
from airflow_mlplatform.specs.problems import Problem
from airflow_mlplatform.specs.schema import FILE_NAME, json_schema

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    :param arguments: the words after the program's name; those of the process if left out.
    :returns: the exit code: 0, 1 for problems found, 2 for wrong usage.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except MlplatformError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlplatform", description="Specs for machine-learning pipelines on Airflow.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    validate = commands.add_parser("validate", help="check specs; exit 1 with all problems")
    validate.add_argument("paths", nargs="*", type=Path, default=[Path()], help="files or folders (default: here)")
    validate.add_argument("--format", choices=FORMATS, default="text", help="how problems are printed")
    validate.set_defaults(run=_validate)

    schema = commands.add_parser("schema", help="print the JSON Schema of specs, for editors")
    schema.set_defaults(run=_schema)

    render = commands.add_parser("render", help="show what a spec becomes: tasks, arrows, schedule, values")
    render.add_argument("spec", type=Path, help="a spec file")
    render.add_argument("--format", choices=("text", "mermaid", "json"), default="text")
    render.add_argument("--root", type=Path, help="folder of specs, where defaults.yaml files are looked for from")
    render.set_defaults(run=_render)

    new = commands.add_parser("new", help="write a commented spec that validates")
    new.add_argument("kind", choices=KINDS)
    new.add_argument("name", help="name of the pipeline: the dag_id")
    new.add_argument("--folder", type=Path, help="write NAME.yaml there instead of printing it")
    new.set_defaults(run=_new)

    demo = commands.add_parser("demo", help="run the wine pipelines on this machine, from raw data to a served model")
    demo.add_argument("--exit", action="store_true", help="stop when the model has answered, instead of at Ctrl-C")
    demo.add_argument("--folder", type=Path, default=Path(".demo"), help="where everything it makes lies")
    demo.set_defaults(run=_demo)
    return parser


def _validate(options: argparse.Namespace) -> int:
    documents, problems = [], []
    for path in options.paths:
        if not path.exists():
            problems.append(Problem(str(path), 1, 1, "", "is not there", "name a spec file or a folder of specs"))
            continue
        found = load_folder(path) if path.is_dir() else list(load_file(path, _root_of(path)))
        prefix = path if path.is_dir() else _root_of(path)
        documents += found
        problems += [_below(prefix, problem) for document in found for problem in document.problems]
        problems += [_below(prefix, problem) for problem in check_references(found)]
    FORMATS[options.format](sorted(dict.fromkeys(problems)), documents)
    return int(any(problem.severity == "error" for problem in problems))


def _root_of(path: Path) -> Path:
    """The folder from which defaults apply to a single file: here, if the file lies below."""
    return Path() if path.resolve().is_relative_to(Path.cwd()) and not path.is_absolute() else path.parent


def _below(prefix: Path, problem: Problem) -> Problem:
    return replace(problem, path=str(prefix / problem.path))


def _print_text(problems: Sequence[Problem], documents: Sequence[Document]) -> None:
    for problem in problems:
        print(problem)
    broken = sum(document.spec is None for document in documents)
    print(f"{len(documents)} specs, {broken} broken", file=sys.stderr)


def _print_json(problems: Sequence[Problem], documents: Sequence[Document]) -> None:  # noqa: ARG001
    print(json.dumps([problem.as_dict() for problem in problems], indent=2))


def _print_github(problems: Sequence[Problem], documents: Sequence[Document]) -> None:  # noqa: ARG001
    for problem in problems:
        text = f"{problem.field}: {problem.what}; {problem.todo}".removeprefix(": ")
        escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        print(f"::{problem.severity} file={problem.path},line={problem.line},col={problem.column}::{escaped}")


FORMATS = {"text": _print_text, "json": _print_json, "github": _print_github}


def _schema(options: argparse.Namespace) -> int:  # noqa: ARG001
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0


def _render(options: argparse.Namespace) -> int:
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
    from airflow_mlplatform.factory import render
    from airflow_mlplatform.factory.build import build_dag

    for document in load_file(options.spec, options.root or _root_of(options.spec)):
        dag = build_dag(document)
        if options.format == "json":
            print(json.dumps(render.as_json(document, dag), indent=2, ensure_ascii=False))
        else:
            print(render.as_mermaid(document, dag) if options.format == "mermaid" else render.as_text(document, dag))
    return 0


def _new(options: argparse.Namespace) -> int:
    if not is_name(options.name):
        print(f"{options.name!r} is no name; use letters, digits, _ . and -, beginning with a letter", file=sys.stderr)
        return 2
    template = resources.files("airflow_mlplatform") / "examples" / f"{options.kind}.yaml"
    text = template.read_text("utf-8").replace("my-pipeline", options.name)
    if options.folder is None:
        print(text, end="")
        return 0
    return _write_new(options.folder, f"{options.name}.yaml", text)


def _write_new(folder: Path, name: str, text: str) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (folder / name).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        print(f"{folder / name} is there already; choose another name or delete it", file=sys.stderr)
        return 1
    schema = folder / FILE_NAME
    if not schema.exists():
        schema.write_text(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(f"wrote {folder / name}, and {FILE_NAME} for completion in editors")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from airflow_mlplatform.demo.run import run_demo

    return run_demo(options.folder, stay=not options.exit)


if __name__ == "__main__":
    sys.exit(main())
