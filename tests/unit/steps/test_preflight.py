"""What is asked of a model's answer to its own input example."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from airflow_mlplatform.exceptions import CheckFailed, ConfigurationError
from airflow_mlplatform.steps.preflight import Example, ModelCard, check_answer, read_model

if TYPE_CHECKING:
    from pathlib import Path

SPLIT = {"dataframe_split": {"columns": ["a"], "data": [[1], [2]]}}
LONG = {"type": "long"}
TENSOR = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 3]}}


def model(folder: Path, body: Any, kind: str = "dataframe", outputs: list[dict[str, Any]] | None = None) -> Path:
    card: dict[str, Any] = {"flavors": {}, "saved_input_example_info": {"type": kind}}
    if outputs is not None:
        card["signature"] = {"inputs": "[]", "outputs": json.dumps(outputs)}
    (folder / "MLmodel").write_text(yaml.safe_dump(card))
    (folder / "serving_input_example.json").write_text(json.dumps(body))
    return folder


@pytest.mark.parametrize(
    ("body", "kind", "rows"),
    [
        (SPLIT, "dataframe", 2),
        ({"dataframe_records": [{"a": 1}]}, "dataframe", 1),
        ({"instances": [[1], [2], [3]]}, "ndarray", 3),
        ({"inputs": [[1.0, 2.0], [3.0, 4.0]]}, "ndarray", 2),
        ({"inputs": {"a": [1, 2, 3], "b": [4, 5, 6]}}, "ndarray", 3),
        ({"inputs": {"a": [1, 2, 3]}}, "json_object", None),
        ({"inputs": {"question": "why?"}}, "json_object", None),
        ({"messages": [{"role": "user", "content": "why?"}]}, "json_object", None),
        ({"inputs": "why?"}, "json_object", None),
        ([1, 2], "json_object", None),
    ],
)
def test_rows_of_an_example(tmp_path: Path, body: Any, kind: str, rows: int | None) -> None:
    assert read_model(model(tmp_path, body, kind)).example.rows == rows


def test_outputs_of_a_signature(tmp_path: Path) -> None:
    assert read_model(model(tmp_path, SPLIT, outputs=[LONG])).outputs == [LONG]
    assert read_model(model(tmp_path, SPLIT)).outputs == []


def test_without_an_example_it_says_how_to_log_one(tmp_path: Path) -> None:
    (model(tmp_path, SPLIT) / "serving_input_example.json").unlink()
    with pytest.raises(ConfigurationError, match=r"input_example=.*preflight: false"):
        read_model(tmp_path)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no MLmodel file"):
        read_model(tmp_path)


def check(
    answer: Any, outputs: list[dict[str, Any]] | None = None, rows: int | None = 2, status: int = 200
) -> int | None:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return check_answer(ModelCard(Example(b"", rows), outputs or []), status, body)


@pytest.mark.parametrize(
    ("predictions", "outputs"),
    [
        ([1, 2], [LONG]),
        ([1, 2], []),
        ([1, 2.5], [{"type": "double"}]),
        ([True, False], [{"type": "boolean"}]),
        (["a", "b"], [{"type": "string"}]),
        (["a", None], [{"type": "string", "required": False}]),
        ([{"p": 1, "q": "a"}, {"p": 2, "q": "b"}], [{"type": "long", "name": "p"}, {"type": "string", "name": "q"}]),
        ([1, 2], [{"type": "long", "name": "p"}]),
        ([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]], [TENSOR]),
        ({"p": [1, 2], "q": [3, 4]}, [{"type": "long", "name": "p"}, {"type": "long", "name": "q"}]),
        ([[1], [2]], [{"type": "array"}]),
        ([{}, {}], [{"type": "object"}]),
        ([1, "a"], [{"type": "any"}]),
        ([[1, 2], [3, 4]], [{"type": "long", "name": "p"}, {"type": "long", "name": "q"}]),
    ],
)
def test_good_answers(predictions: Any, outputs: list[dict[str, Any]]) -> None:
    check({"predictions": predictions}, outputs)


@pytest.mark.parametrize(
    ("predictions", "outputs", "words"),
    [
        ([1], [], "2 rows were sent and 1 came back"),
        ([1, 2, 3], [], "2 rows were sent and 3 came back"),
        ([], [], "0 came back"),
        (1, [], "1 came back"),
        ({"p": [1, 2], "q": [1]}, [], r"1 came back \(q\)"),
        ([1.5, 2.5], [LONG], "1.5, but its signature says long"),
        ([True, False], [LONG], "true, but its signature says long"),
        (["1", "2"], [{"type": "double"}], "signature says double"),
        ([1, None], [{"type": "double"}], "null, but its signature says double"),
        ([1.0, float("nan")], [{"type": "double"}], "NaN"),
        ([1, 2], [{"type": "string"}], "signature says string"),
        ([{"p": 1}, {"x": 2}], [{"type": "long", "name": "p"}], "output 'p' of its signature is missing"),
        ({"x": [1, 2]}, [{"type": "long", "name": "p"}], "output 'p' of its signature is missing"),
        ([[0.1, 0.2], [0.1, 0.2]], [TENSOR], "2 where its signature says a dimension of 3"),
        ([0.1, 0.2], [TENSOR], "no list where its signature says a dimension of 3"),
        ([["a", "b", "c"]] * 2, [TENSOR], "signature says float64"),
    ],
)
def test_bad_answers(predictions: Any, outputs: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(CheckFailed, match=words):
        check({"predictions": predictions}, outputs)


def test_an_answer_that_is_no_json() -> None:
    with pytest.raises(CheckFailed, match="no JSON: <html>"):
        check(b"<html>")


def test_an_answer_without_predictions() -> None:
    with pytest.raises(CheckFailed, match="no predictions"):
        check({"outputs": []})
    assert check({"choices": []}, rows=None) is None


def test_a_refusal_shows_mlflow_s_message_and_the_end_of_the_trace() -> None:
    body = {
        "error_code": "BAD_REQUEST",
        "message": "Failed.",
        "stack_trace": "Traceback…\n  line\nValueError: no such column",
    }
    with pytest.raises(CheckFailed, match=r"HTTP 400: Failed\. ValueError: no such column"):
        check(body, status=400)
    with pytest.raises(CheckFailed, match="HTTP 500: oops"):
        check(b"oops", status=500)
