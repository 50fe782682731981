"""The JSON Schema agrees with the models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from airflow_mlplatform.specs.schema import FILE_NAME, json_schema
from tests.unit.specs.examples import ALL
from tests.unit.specs.test_load import REFUSED

REPOSITORY = Path(__file__).parents[3]
# What only the models can tell: relations between fields, templates, cron.
BEYOND_SCHEMAS = ("stands twice", "template", "not declared", "no schedule", "no preset", "several sources", "is above",
                  "does not fit", "partition_by writes", "no valid timestamp", "chooses among", "stands in project",
                  "ascend", "belong to strategy", "needs to know", "are both", "no place of", "two connectors",
                  "lacks connector.class", "names the connector", "is for state", "no image is named", "no path",
                  "takes longer", "no name of an", "stand readable")  # fmt: skip


def plain(text: str) -> Any:
    return json.loads(json.dumps(yaml.safe_load(text), default=str))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    return jsonschema.Draft202012Validator(json_schema())


@pytest.mark.parametrize("kind", ALL)
def test_it_accepts_every_field(kind: str, validator: jsonschema.Draft202012Validator) -> None:
    assert list(validator.iter_errors(plain(ALL[kind]))) == []


SAID_BY_BOTH = [row for row in REFUSED if not any(words in row[3] for words in BEYOND_SCHEMAS) and "!!" not in row[2]]


@pytest.mark.parametrize(("spec", "old", "new", "message"), SAID_BY_BOTH, ids=[row[3][:60] for row in SAID_BY_BOTH])
def test_it_refuses_what_the_models_refuse(
    spec: str, old: str, new: str, message: str, validator: jsonschema.Draft202012Validator
) -> None:
    assert list(validator.iter_errors(plain(spec.replace(old, new, 1)))) != []


def test_every_key_has_hover_text() -> None:
    definitions = json_schema()["$defs"]
    silent = [
        f"{name}.{key}"
        for name, definition in definitions.items()
        for key, field in definition.get("properties", {}).items()
        if not {**definitions.get(field.get("$ref", "").rpartition("/")[2], {}), **field}.get("description")
    ]
    assert silent == []


def test_the_published_file_is_the_generated_one() -> None:
    published = REPOSITORY / "docs" / FILE_NAME
    assert json.loads(published.read_text("utf-8")) == json_schema(), f"run: mlplatform schema > docs/{FILE_NAME}"
