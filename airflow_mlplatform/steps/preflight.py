"""Checks of a model's answer to its own input example; nothing here starts, asks or waits for anything."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from airflow_mlplatform.exceptions import CheckFailed, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["Example", "ModelCard", "card_of", "check_answer", "check_predictions", "example_file", "read_model"]

SERVING_EXAMPLE = "serving_input_example.json"
LONGEST_QUOTE = 2000


@dataclass(frozen=True)
class Example:
    """A request that the model was logged with.

    :param body: the JSON body for ``/invocations``.
    :param rows: how many predictions it asks for; ``None`` where that cannot be told.
    """

    body: bytes
    rows: int | None


@dataclass(frozen=True)
class ModelCard:
    """What a model's folder says about it.

    :param example: its input example.
    :param outputs: the outputs of its signature, as MLflow writes them; empty without a signature.
    :param inputs: the inputs of its signature; empty without a signature.
    :param python: version of Python that it was made with; empty if unknown.
    """

    example: Example
    outputs: Sequence[Mapping[str, Any]]
    inputs: Sequence[Mapping[str, Any]] = ()
    python: str = ""


def read_model(folder: Path) -> ModelCard:
    """Read input example and signature of a model.

    :param folder: the folder with its ``MLmodel``.
    :raises ConfigurationError: if it is no model, or was logged without an input example.
    """
    try:
        text = (folder / "MLmodel").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(f"{folder} holds no MLmodel file, so it is no MLflow model; register one") from None
    path = folder / example_file(text)
    return card_of(text, path.read_bytes() if path.is_file() else None)


def example_file(text: str) -> str:
    """Return where the input example of a model lies, below its folder; empty if it was logged without one.

    :param text: its file ``MLmodel``.
    """
    about = _about_example(_read(text))
    return str(about.get("serving_input_path") or SERVING_EXAMPLE) if about else ""


def card_of(text: str, body: bytes | None) -> ModelCard:
    """Read input example and signature of a model.

    :param text: its file ``MLmodel``.
    :param body: its file :func:`example_file`; ``None`` if there is none.
    :raises ConfigurationError: if it is no model, or was logged without an input example.
    """
    card = _read(text)
    if body is None:
        raise ConfigurationError(
            "the model was logged without an input example, so there is nothing to ask it; log it with "
            "input_example=… (mlflow.<flavor>.log_model(…, input_example=X.head(5))) or set preflight: false"
        )
    signature = card.get("signature") or {}
    return ModelCard(
        example=Example(body, _rows(json.loads(body), str(_about_example(card).get("type")))),
        outputs=json.loads(signature.get("outputs") or "[]"),
        inputs=json.loads(signature.get("inputs") or "[]"),
        python=str(((card.get("flavors") or {}).get("python_function") or {}).get("python_version") or ""),
    )


def _read(text: str) -> Mapping[str, Any]:
    card = yaml.safe_load(text)
    if not isinstance(card, dict):
        raise ConfigurationError("its file MLmodel is none of MLflow's; register the model again")
    return card


def _about_example(card: Mapping[str, Any]) -> Mapping[str, Any]:
    return card.get("saved_input_example_info") or {}


def _rows(body: Any, kind: str) -> int | None:
    """Count the predictions that a request asks for."""
    if not isinstance(body, dict):
        return None
    if isinstance(body.get("dataframe_split"), dict):
        return len(body["dataframe_split"].get("data", ()))
    for key in ("dataframe_records", "instances", "inputs"):
        if isinstance(body.get(key), list):
            return len(body[key])
    # A dict of arrays has a row for each of their items; any other dict may mean anything.
    named = body.get("inputs")
    if (
        kind == "ndarray"
        and isinstance(named, dict)
        and named
        and all(isinstance(each, list) for each in named.values())
    ):
        return len(next(iter(named.values())))
    return None


def check_answer(card: ModelCard, status: int, body: bytes) -> int | None:
    """Check the answer of the model server.

    :param card: the model.
    :param status: HTTP status of the answer.
    :param body: the answer.
    :returns: how many predictions it holds; ``None`` where that cannot be told.
    :raises CheckFailed: saying what is wrong with it.
    """
    if status != 200:
        raise CheckFailed(f"it answers its own input example with HTTP {status}: {_reason(body)}")
    try:
        answer = json.loads(body)
    except ValueError:
        raise CheckFailed(f"its answer is no JSON: {_quote(body)}") from None
    if not isinstance(answer, dict) or "predictions" not in answer:
        if card.example.rows is None:
            return None  # A chat model answers a chat request without that key.
        raise CheckFailed(f"its answer has no predictions: {_quote(body)}")
    return check_predictions(card, answer["predictions"])


def check_predictions(card: ModelCard, predictions: Any) -> int | None:
    """Check predictions against the signature.

    :param card: the model.
    :param predictions: as MLflow's own server writes them: a list, or a list for each output.
    :returns: how many there are; ``None`` where that cannot be told.
    :raises CheckFailed: saying what is wrong with them.
    """
    _check_count(predictions, card.example.rows)
    _check_outputs(predictions, card.outputs)
    return len(predictions) if isinstance(predictions, list) else None


def _reason(body: bytes) -> str:
    """What MLflow says about its refusal: the message, and the end of the model's own traceback."""
    try:
        error = json.loads(body)
        trace = str(error.get("stack_trace") or "").strip().rpartition("\n")[2]
        return " ".join(filter(None, (str(error["message"]), trace)))[:LONGEST_QUOTE]
    except (ValueError, KeyError, AttributeError):
        return _quote(body)


def _quote(body: bytes) -> str:
    return body[:LONGEST_QUOTE].decode(errors="replace") or "(empty)"


def _check_count(predictions: Any, rows: int | None) -> None:
    if rows is None:
        return
    columns = predictions if isinstance(predictions, dict) else {"predictions": predictions}
    for name, values in columns.items():
        count = len(values) if isinstance(values, list) else 1
        if count != rows:
            raise CheckFailed(f"{rows} rows were sent and {count} came back ({name}); each row needs one prediction")


def _check_outputs(predictions: Any, outputs: Sequence[Mapping[str, Any]]) -> None:
    for output in outputs:
        name = output.get("name")
        for values in _column(predictions, name, alone=len(outputs) == 1):
            _check_value(values, output, f"output {name!r}" if name else "the output")


def _column(predictions: Any, name: str | None, *, alone: bool) -> Sequence[Any]:
    """Return the values of one output: of a list of records, of a dict of columns, or the list itself."""
    if isinstance(predictions, dict) and name is not None:
        if name not in predictions:
            raise CheckFailed(
                f"output {name!r} of its signature is missing; there are {', '.join(map(str, predictions))}"
            )
        values = predictions[name]
        return values if isinstance(values, list) else [values]
    values = predictions if isinstance(predictions, list) else [predictions]
    if name is not None and all(isinstance(value, dict) for value in values):
        if any(name not in value for value in values):
            raise CheckFailed(
                f"output {name!r} of its signature is missing; there are {', '.join(map(str, values[0]))}"
            )
        return [value[name] for value in values]
    # Several outputs as rows of an array have lost their names, and one by one they cannot be told apart.
    return values if alone else []


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "boolean": _is(bool),
    "integer": _is_integer,
    "long": _is_integer,
    "float": _is_number,
    "double": _is_number,
    "string": _is(str),
    "binary": _is(str),
    "datetime": _is(str),
    "array": _is(list),
    "object": _is(dict),
    "map": _is(dict),
}
TENSOR_CHECKS = (("bool", "boolean"), ("int", "long"), ("uint", "long"), ("float", "double"))


def _check_value(value: Any, output: Mapping[str, Any], where: str) -> None:
    kind = str(output.get("type"))
    if kind == "tensor":
        spec = output["tensor-spec"]
        _check_tensor(value, str(spec["dtype"]), tuple(spec["shape"])[1:], where)
    elif value is None and not output.get("required", True):
        return
    elif kind in CHECKS and not CHECKS[kind](value):
        raise CheckFailed(f"{where} is {json.dumps(value)[:100]}, but its signature says {kind}")


def _check_tensor(value: Any, dtype: str, shape: tuple[int, ...], where: str) -> None:
    if shape:
        if not isinstance(value, list) or shape[0] not in (-1, len(value)):
            size = len(value) if isinstance(value, list) else "no list"
            raise CheckFailed(f"{where} has {size} where its signature says a dimension of {shape[0]}")
        for item in value:
            _check_tensor(item, dtype, shape[1:], where)
        return
    for prefix, kind in TENSOR_CHECKS:
        if dtype.startswith(prefix) and not CHECKS[kind](value):
            raise CheckFailed(f"{where} is {json.dumps(value)[:100]}, but its signature says {dtype}")
