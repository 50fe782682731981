"""JSON Schema of the spec language, for completion, hover text and checks in editors."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from airflow_mlplatform.specs.folder_defaults import FolderDefaults
from airflow_mlplatform.specs.kinds import KINDS

__all__ = ["API_VERSION", "FILE_NAME", "json_schema"]

API_VERSION = "mlplatform/v1"
FILE_NAME = "mlplatform-v1.schema.json"


def json_schema() -> dict[str, Any]:
    """Return the schema of a spec file; the kind decides which keys there are.

    ``if``/``then`` rather than ``oneOf``: editors then complain about the key that is wrong and not about every kind.
    """
    references, definitions = models_json_schema([(model, "validation") for model in (*KINDS.values(), FolderDefaults)])
    kinds = {kind: references[model, "validation"] for kind, model in KINDS.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:airflow-mlplatform:mlplatform/v1",
        "title": f"airflow-mlplatform spec, {API_VERSION}",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {
            "apiVersion": {"const": API_VERSION, "description": "Version of the spec language."},
            "kind": {"enum": list(KINDS), "description": "What the spec describes."},
        },
        "allOf": [
            {"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": reference}
            for kind, reference in kinds.items()
        ],
        "$defs": definitions["$defs"],
    }
