"""A model's input example as a request of Seldon's protocols, and predictions out of the answer.

Protocol ``v2``: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol, with the content
types of MLServer's MLflow runtime (``pd``: one input a column; ``np``; ``dict``). Protocol ``seldon``: ``names`` and
``ndarray``, https://docs.seldon.io/projects/seldon-core/en/v1.17.1/graph/protocols.html.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_mlplatform.exceptions import CheckFailed, UnsupportedHere
from airflow_mlplatform.steps.preflight import ModelCard

__all__ = ["Question", "predictions_in", "question", "reason_in"]

Json = Mapping[str, Any]

# MLflow's column types: datatype and MLServer's content type.
COLUMN_TYPES = {
    "boolean": ("BOOL", "np"),
    "integer": ("INT32", "np"),
    "long": ("INT64", "np"),
    "float": ("FP32", "np"),
    "double": ("FP64", "np"),
    "string": ("BYTES", "str"),
    "binary": ("BYTES", "base64"),
    "datetime": ("BYTES", "datetime"),
}
NESTED = ("BYTES", "pd_json")
TENSOR_TYPES = (("bool", "BOOL"), ("uint", "UINT"), ("int", "INT"), ("float", "FP"))
LONGEST_QUOTE = 2000


@dataclass(frozen=True)
class Question:
    """What is asked of a predictor.

    :param path: path of its Service.
    :param body: JSON.
    """

    path: str
    body: dict[str, Any]


def question(card: ModelCard, protocol: str, node: str) -> Question:
    """Put a model's own input example as a request.

    :param card: the model.
    :param protocol: ``v2`` or ``seldon``.
    :param node: name of the graph's node that serves it.
    :raises UnsupportedHere: if the protocol has no words for such an example.
    """
    # MLflow writes NaN, which is no JSON and which the executor refuses.
    example = json.loads(card.example.body, parse_constant=lambda _: None)
    example = example if isinstance(example, dict) else {}
    table, tensors = _table(example), _tensors(example)
    if protocol == "v2" and (table or tensors):
        body = _v2_table(table, card) if table else _v2_tensors(tensors, card)
        return Question(f"/v2/models/{node}/infer", body)
    if protocol == "seldon" and (table or set(tensors) == {""}):
        data = {"names": list(table), "ndarray": _rows(table)} if table else {"ndarray": tensors[""]}
        return Question("/api/v1.0/predictions", {"data": data})
    keys = ", ".join(example) or "no object"
    raise UnsupportedHere(
        f"its input example ({keys}) is neither a table nor an array, for which protocol {protocol} has no words; log "
        "the model with a DataFrame or an array as input_example, or set preflight: false"
    )


def predictions_in(protocol: str, body: bytes, card: ModelCard) -> Any:
    """Return the predictions of an answer as MLflow's own server would write them.

    :raises CheckFailed: if it is no answer of that protocol.
    """
    try:
        answer = json.loads(body)
        return _v2_predictions(answer, card) if protocol == "v2" else _seldon_predictions(answer, card)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        quoted = body[:LONGEST_QUOTE].decode(errors="replace") or "(empty)"
        raise CheckFailed(f"its answer is none of protocol {protocol}: {quoted}") from None


def reason_in(body: bytes) -> str:
    """Return what a refusal says: of the model server, or of the executor before it."""
    text = body.decode(errors="replace").strip() or "(empty)"
    try:
        told = json.loads(body)
        status = told.get("status") if isinstance(told.get("status"), dict) else {}
        text = str(told.get("error") or status.get("info") or status.get("reason") or text).strip()
    except (ValueError, AttributeError):
        pass
    # The last line of a traceback is what it is about.
    return (text.rpartition("\n")[2] if text.startswith("Traceback") else text)[:LONGEST_QUOTE]


def _table(example: Json) -> dict[str, list[Any]]:
    """Columns by name; empty if the example is no table."""
    if isinstance(split := example.get("dataframe_split"), dict):
        names = [str(name) for name in split.get("columns") or range(len((split.get("data") or [[]])[0]))]
        return {name: [row[place] for row in split.get("data") or ()] for place, name in enumerate(names)}
    records = example.get("dataframe_records")
    if isinstance(records, list) and records and isinstance(records[0], dict):
        return {str(name): [record.get(name) for record in records] for name in records[0]}
    return {}


def _tensors(example: Json) -> dict[str, list[Any]]:
    """Arrays by name; the only one of an example without names has an empty one."""
    given = example.get("inputs", example.get("instances"))
    if isinstance(given, list) and not (given and isinstance(given[0], dict)):
        return {"": given}
    if isinstance(given, dict) and given and all(isinstance(each, list) for each in given.values()):
        return {str(name): each for name, each in given.items()}
    return {}


def _rows(table: Mapping[str, Sequence[Any]]) -> list[list[Any]]:
    return [list(row) for row in zip(*table.values(), strict=True)]


def _v2_table(table: Mapping[str, list[Any]], card: ModelCard) -> dict[str, Any]:
    # A signature without names tells its columns by their places.
    types = {str(each.get("name") or place): each.get("type") for place, each in enumerate(card.inputs)}
    inputs = [_v2_column(name, values, types.get(name)) for name, values in table.items()]
    return {"parameters": {"content_type": "pd"}, "inputs": inputs}


def _v2_column(name: str, values: list[Any], kind: Any) -> dict[str, Any]:
    if all(value is None for value in values) and kind is None:
        kind = "double"
    datatype, content = (COLUMN_TYPES.get(str(kind)) or NESTED) if kind else _guessed(values)
    data = [json.dumps(value) for value in values] if (datatype, content) == NESTED else values
    told = {"datatype": datatype, "parameters": {"content_type": content}}
    return {"name": name, "shape": [len(values)], **told, "data": data}


def _guessed(values: Sequence[Any]) -> tuple[str, str]:
    kinds = {type(value) for value in values if value is not None}
    for kind, name in ((bool, "boolean"), (int, "long"), (str, "string")):
        if kinds == {kind}:
            return COLUMN_TYPES[name]
    return COLUMN_TYPES["double"] if kinds <= {int, float} else NESTED


def _v2_tensors(tensors: Mapping[str, list[Any]], card: ModelCard) -> dict[str, Any]:
    types = {str(each.get("name") or ""): each.get("tensor-spec") or {} for each in card.inputs}
    inputs = [_v2_tensor(name, values, types.get(name, {})) for name, values in tensors.items()]
    return {"parameters": {"content_type": "np" if "" in tensors else "dict"}, "inputs": inputs}


def _v2_tensor(name: str, values: list[Any], spec: Json) -> dict[str, Any]:
    data = list(_flat(values))
    datatype = _tensor_type(str(spec.get("dtype") or "")) or _guessed(data)[0]
    content = "str" if datatype == "BYTES" else "np"
    told = {"datatype": datatype, "parameters": {"content_type": content}}
    return {"name": name or "input-0", "shape": _shape(values), **told, "data": data}


def _tensor_type(dtype: str) -> str:
    for prefix, datatype in TENSOR_TYPES:
        if dtype.startswith(prefix):
            return datatype + dtype.removeprefix(prefix)
    return "BYTES" if dtype in ("object", "str") else ""


def _shape(values: Any) -> list[int]:
    return [len(values), *(_shape(values[0]) if values else [])] if isinstance(values, list) else []


def _flat(values: Any) -> Iterator[Any]:
    if isinstance(values, list):
        for value in values:
            yield from _flat(value)
    else:
        yield values


def _v2_predictions(answer: Json, card: ModelCard) -> Any:
    outputs = {str(each["name"]): _nested(list(_flat(each["data"])), list(each["shape"])) for each in answer["outputs"]}
    if len(outputs) == 1:
        return _as_signed(next(iter(outputs.values())), card.outputs[0] if card.outputs else {})
    signed = {each.get("name"): each for each in card.outputs}
    return {name: _as_signed(values, signed.get(name, {})) for name, values in outputs.items()}


def _nested(flat: list[Any], shape: list[int]) -> list[Any]:
    if len(shape) < 2:
        return flat
    size = len(flat) // shape[0] if shape[0] else 0
    return [_nested(flat[place * size : (place + 1) * size], shape[1:]) for place in range(shape[0])]


def _as_signed(values: list[Any], output: Json) -> list[Any]:
    """Take single values out of lists that the server put around them: it writes every answer with two dimensions."""
    dimensions = len((output.get("tensor-spec") or {}).get("shape") or (0,))
    while len(shape := _shape(values)) > dimensions and shape[-1] == 1 and output.get("type") != "array":
        values = _without_last(values)
    return values


def _without_last(values: list[Any]) -> list[Any]:
    return [_without_last(value) if isinstance(value[0], list) else value[0] for value in values]


def _seldon_predictions(answer: Json, card: ModelCard) -> Any:
    if "jsonData" in answer:
        return answer["jsonData"]
    if "strData" in answer:
        return [answer["strData"]]
    data = answer["data"]
    values = data["ndarray"] if "ndarray" in data else _nested(data["tensor"]["values"], list(data["tensor"]["shape"]))
    if len(card.outputs) > 1 and len(data.get("names") or ()) == len(card.outputs):
        return {name: [row[place] for row in values] for place, name in enumerate(data["names"])}
    return _as_signed(list(values), card.outputs[0] if card.outputs else {})
