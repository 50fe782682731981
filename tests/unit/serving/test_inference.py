"""A model's example as a request of Seldon's protocols, and predictions out of the answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_mlplatform.exceptions import CheckFailed, UnsupportedHere
from airflow_mlplatform.serving.inference import predictions_in, question, reason_in
from airflow_mlplatform.steps.preflight import Example, ModelCard, check_predictions

SPLIT = {"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, "x"], [None, "y"]]}}
LONG: dict[str, Any] = {"type": "long"}
DOUBLES = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}
ROWS_OF_ONE = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 1]}}


def card(
    body: Any, inputs: list[dict[str, Any]] | None = None, outputs: list[dict[str, Any]] | None = None
) -> ModelCard:
    return ModelCard(Example(json.dumps(body).encode(), 2), outputs or [], inputs or [])


def columns(body: Any, inputs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    asked = question(card(body, inputs), "v2", "classifier")
    assert asked.path == "/v2/models/classifier/infer"
    assert asked.body["parameters"] == {"content_type": "pd"}
    return {
        each["name"]: (each["datatype"], each["parameters"]["content_type"], each["shape"], each["data"])
        for each in asked.body["inputs"]
    }


def test_a_table_in_v2_without_a_signature() -> None:
    records = [{"a": 1, "b": True, "c": "x", "d": [1, 2]}, {"a": 2, "b": False, "c": "y", "d": None}]
    assert columns({"dataframe_records": records}) == {
        "a": ("INT64", "np", [2], [1, 2]),
        "b": ("BOOL", "np", [2], [True, False]),
        "c": ("BYTES", "str", [2], ["x", "y"]),
        "d": ("BYTES", "pd_json", [2], ["[1, 2]", "null"]),
    }
    assert columns(SPLIT)["a"] == ("FP64", "np", [2], [1.5, None])
    not_a_number = {"dataframe_split": {"columns": ["a"], "data": [[float("nan")], [2.5]]}}
    assert columns(not_a_number)["a"] == ("FP64", "np", [2], [None, 2.5])


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("double", [1, 2], ("FP64", "np")),
        ("float", [1, 2], ("FP32", "np")),
        ("integer", [1, 2], ("INT32", "np")),
        ("boolean", [True, False], ("BOOL", "np")),
        ("string", ["x", "y"], ("BYTES", "str")),
        ("binary", ["eA==", "eQ=="], ("BYTES", "base64")),
        ("datetime", ["2026-01-01T00:00:00", "2026-01-02T00:00:00"], ("BYTES", "datetime")),
        ("array", [[1], [2]], ("BYTES", "pd_json")),
    ],
)
def test_columns_have_the_types_of_the_signature(kind: str, values: list[Any], expected: tuple[str, str]) -> None:
    body = {"dataframe_split": {"columns": ["a"], "data": [[value] for value in values]}}
    assert columns(body, [{"type": kind, "name": "a"}])["a"][:2] == expected


def test_tensors_in_v2() -> None:
    inputs = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]
    asked = question(card({"inputs": [[1, 2], [3, 4], [5, 6]]}, inputs), "v2", "model").body
    assert asked["parameters"] == {"content_type": "np"}
    assert asked["inputs"][0] | {"name": ""} == {
        "name": "",
        "datatype": "FP32",
        "shape": [3, 2],
        "parameters": {"content_type": "np"},
        "data": [1, 2, 3, 4, 5, 6],
    }
    named = [{"type": "tensor", "name": "b", "tensor-spec": {"dtype": "uint8", "shape": [-1]}}]
    asked = question(card({"inputs": {"a": ["x", "y"], "b": [1, 2]}}, named), "v2", "model").body
    assert asked["parameters"] == {"content_type": "dict"}
    assert [(each["name"], each["datatype"]) for each in asked["inputs"]] == [("a", "BYTES"), ("b", "UINT8")]


def test_seldon() -> None:
    asked = question(card(SPLIT), "seldon", "model")
    assert (asked.path, asked.body) == (
        "/api/v1.0/predictions",
        {"data": {"names": ["a", "b"], "ndarray": [[1.5, "x"], [None, "y"]]}},
    )
    assert question(card({"inputs": [[1], [2]]}), "seldon", "model").body == {"data": {"ndarray": [[1], [2]]}}


@pytest.mark.parametrize("protocol", ["v2", "seldon"])
@pytest.mark.parametrize("body", [{"messages": [{"role": "user"}]}, {"inputs": "why?"}, [1], {"inputs": {"q": "why?"}}])
def test_examples_without_words(protocol: str, body: Any) -> None:
    with pytest.raises(UnsupportedHere, match="preflight: false"):
        question(card(body), protocol, "model")


def v2(*outputs: dict[str, Any]) -> bytes:
    return json.dumps({"model_name": "m", "outputs": outputs}).encode()


def output(name: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": "INT64", "data": data}


@pytest.mark.parametrize(
    ("protocol", "body", "outputs", "expected"),
    [
        ("v2", v2(output("output-1", [2, 1], [0, 1])), [LONG], [0, 1]),
        ("v2", v2(output("output-1", [2], [0, 1])), [LONG], [0, 1]),
        ("v2", v2(output("output-1", [2, 1], [0.5, 1.0])), [DOUBLES], [0.5, 1.0]),
        ("v2", v2(output("output-1", [2, 1], [0.5, 1.0])), [ROWS_OF_ONE], [[0.5], [1.0]]),
        ("v2", v2(output("output-1", [2, 2], [1, 2, 3, 4])), [], [[1, 2], [3, 4]]),
        ("v2", v2(output("a", [2, 1], [0, 1]), output("b", [2], [2, 3])), [], {"a": [0, 1], "b": [2, 3]}),
        ("seldon", b'{"data": {"names": [], "ndarray": [0, 1]}}', [LONG], [0, 1]),
        ("seldon", b'{"data": {"names": ["t:0"], "ndarray": [[0], [1]]}}', [LONG], [0, 1]),
        ("seldon", b'{"data": {"tensor": {"shape": [2, 1], "values": [0.5, 1]}}}', [DOUBLES], [0.5, 1]),
        (
            "seldon",
            b'{"data": {"names": ["a", "b"], "ndarray": [[1, "x"], [2, "y"]]}}',
            [LONG | {"name": "a"}, {"type": "string", "name": "b"}],
            {"a": [1, 2], "b": ["x", "y"]},
        ),
        ("seldon", b'{"jsonData": {"a": [1, 2]}}', [], {"a": [1, 2]}),
        ("seldon", b'{"strData": "x"}', [], ["x"]),
    ],
)
def test_predictions(protocol: str, body: bytes, outputs: list[dict[str, Any]], expected: Any) -> None:
    found = predictions_in(protocol, body, card(SPLIT, outputs=outputs))
    assert found == expected
    if expected != ["x"]:
        check_predictions(card(SPLIT, outputs=outputs), found)


@pytest.mark.parametrize("protocol", ["v2", "seldon"])
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"<html>", b'{"outputs": [{}]}', b'{"data": {}}', b'"x"'])
def test_no_answer(protocol: str, body: bytes) -> None:
    with pytest.raises(CheckFailed, match=f"none of protocol {protocol}"):
        predictions_in(protocol, body, card(SPLIT))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"error":"MlflowException: Model is missing inputs"}', "MlflowException: Model is missing inputs"),
        (b'{"status":{"code":500,"info":"invalid character","status":"FAILURE"}}', "invalid character"),
        (b'{"status":{"code":-1,"reason":"MICROSERVICE_BAD_DATA","status":1}}', "MICROSERVICE_BAD_DATA"),
        (b"404 page not found\n", "404 page not found"),
        (b"Traceback (most recent call last):\n  File x\nKeyError: 'O'\n", "KeyError: 'O'"),
        (b"", "(empty)"),
        (b"[1]", "[1]"),
    ],
)
def test_reasons(body: bytes, reason: str) -> None:
    assert reason_in(body) == reason
