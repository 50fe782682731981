"""What the documentation shows is true: specs load, DAGs build, files exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from airflow.sdk import DAG

from airflow_mlplatform.factory.build import build_dag
from airflow_mlplatform.factory.discover import load_folder
from airflow_mlplatform.specs.folder_defaults import FolderDefaults
from airflow_mlplatform.specs.load import load_text
from airflow_mlplatform.specs.schema import json_schema

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "dag_specs").rglob("*.md")]
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in BLOCK.finditer(text):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 1
                found.append((f"{page.relative_to(REPOSITORY)}:{line}", match[2]))
    return found


def against_schema(text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(json_schema())
    documents = json.loads(json.dumps(list(yaml.safe_load_all(text)), default=str))
    return [error.message for document in documents for error in validator.iter_errors(document)]


YAML_BLOCKS = blocks("yaml")
SPECS = [block for block in YAML_BLOCKS if "kind:" in block[1]]


def test_there_is_something_to_test() -> None:
    assert len(SPECS) >= 4
    assert len(blocks("python")) >= 4


@pytest.mark.parametrize(("place", "text"), SPECS, ids=[place for place, _ in SPECS])
def test_specs_in_the_documentation_are_valid_and_build(place: str, text: str) -> None:
    assert against_schema(text) == [], place
    for document in load_text(text, place):
        assert document.problems == ()
        build_dag(document)


@pytest.mark.parametrize(("place", "text"), [b for b in YAML_BLOCKS if b not in SPECS])
def test_other_yaml_in_the_documentation_is_folder_defaults(place: str, text: str) -> None:
    FolderDefaults.model_validate(yaml.safe_load(text))


@pytest.mark.parametrize(("place", "text"), blocks("python"), ids=[place for place, _ in blocks("python")])
def test_python_in_the_documentation_builds_dags(place: str, text: str) -> None:
    names: dict[str, object] = {"__name__": "docs", "__file__": "docs.py"}
    with DAG("outer"):
        pass
    exec(compile(text, place, "exec"), names)  # the documentation is ours


@pytest.mark.parametrize(("place", "text"), blocks("json"), ids=[place for place, _ in blocks("json")])
def test_json_in_the_documentation_is_json(place: str, text: str) -> None:
    json.loads(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_in_the_documentation_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#|/)([^)#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_paths_named_in_the_documentation_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:airflow_mlplatform|tests|docs|dags|dag_specs|benchmarks)/[\w./-]+\.\w+)`", page.read_text("utf-8")
    )
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


def test_every_example_is_valid_by_schema_and_models_and_names_the_schema() -> None:
    examples = load_folder(REPOSITORY / "dag_specs")
    assert len(examples) >= 3
    for document in examples:
        assert document.problems == ()
        text = document.path.read_text("utf-8")
        assert against_schema(text) == []
        comment = re.match(r"# yaml-language-server: \$schema=(\S+)", text)
        assert comment, f"{document.shown} lacks the schema comment"
        assert (document.path.parent / comment[1]).exists()


def test_the_option_table_names_every_option() -> None:
    from airflow_mlplatform.provider_info import OPTIONS

    page = (REPOSITORY / "docs" / "settings.md").read_text("utf-8")
    assert [name for name in OPTIONS if f"| `{name}` |" not in page] == []
