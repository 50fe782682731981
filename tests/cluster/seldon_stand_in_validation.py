"""What Seldon's validating webhook says about a SeldonDeployment, in its words (1.17.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tests.cluster.api_server import Object

__all__ = ["Invalid", "problems", "refusal"]

# The operator really writes the group without its second "n".
GROUP = "machinelearing.seldon.io"
PROTOCOLS = ("", "seldon", "tensorflow", "kfserving", "v2")
NOT_TENSORFLOW = ("SKLEARN_SERVER", "XGBOOST_SERVER", "MLFLOW_SERVER", "HUGGINGFACE_SERVER")


class Invalid(NamedTuple):
    """One thing that is wrong.

    :param field: where.
    :param value: what stands there, or what the operator takes for it.
    :param detail: why.
    """

    field: str
    value: str
    detail: str

    @property
    def message(self) -> str:
        """Value and reason as Kubernetes writes them."""
        return f'Invalid value: "{self.value}": {self.detail}'


def problems(spec: Object, servers: Collection[str]) -> list[Invalid]:
    """All that is wrong with a spec that passed the schema.

    :param servers: the prepackaged servers that are installed.
    """
    return [*_head(spec), *_shadow(spec), *_predictors(spec, servers), *_traffic(spec)]


def refusal(found: list[Invalid]) -> Object:
    """The `Status` that the API server hands to the user, with its own words before the message."""
    told = [f"{one.field}: {one.message}" for one in found]
    message = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    causes = [{"reason": "FieldValueInvalid", "message": one.message, "field": one.field} for one in found]
    return {
        "status": "Failure",
        "message": f'SeldonDeployment.{GROUP} "" is invalid: {message}',
        "reason": "Invalid",
        "details": {"group": GROUP, "kind": "SeldonDeployment", "causes": causes},
        "code": 422,
    }


def _head(spec: Object) -> Iterator[Invalid]:
    if spec.get("protocol", "") not in PROTOCOLS:
        yield Invalid("spec", spec["protocol"], "Invalid protocol")
    if spec.get("transport", "") not in {"", "rest", "grpc"}:
        yield Invalid("spec", spec["transport"], "Invalid transport")
    if spec.get("serverType", "") not in {"", "rpc", "kafka"}:
        yield Invalid("spec", spec["serverType"], "Invalid serverType")


def _shadow(spec: Object) -> Iterator[Invalid]:
    predictors = spec["predictors"]
    if len(predictors) == 1 and predictors[0].get("shadow"):
        yield Invalid("spec.predictors[0]", predictors[0]["name"], "Shadow can not exist as only predictor")


def _predictors(spec: Object, servers: Collection[str]) -> Iterator[Invalid]:
    if not spec["predictors"]:
        yield Invalid("spec", spec.get("transport", ""), "Graph contains no predictors")
    names: set[str] = set()
    for number, predictor in enumerate(spec["predictors"]):
        if predictor["name"] in names:
            yield Invalid(f"spec.predictors[{number}]", predictor["name"], "Duplicate predictor name")
        names.add(predictor["name"])
        for detail in _graph(spec, predictor, servers):
            yield Invalid(f"spec.predictors[{number}].graph", predictor["graph"]["name"], detail)


def _graph(spec: Object, predictor: Object, servers: Collection[str]) -> Iterator[str]:
    graph = predictor["graph"]
    implementation = graph.get("implementation", "")
    containers = [
        one for each in predictor.get("componentSpecs", []) for one in each.get("spec", {}).get("containers", [])
    ]
    own = next((one for one in containers if one["name"] == graph["name"]), None)
    if implementation in {"", "UNKNOWN_IMPLEMENTATION"}:
        if own is None:
            yield "Can't find container for Predictive Unit"
        return
    if not graph.get("modelUri") and implementation != "HUGGINGFACE_SERVER":
        yield "Predictive unit modelUri required when using standalone servers"
    if spec.get("protocol") == "tensorflow" and implementation in NOT_TENSORFLOW:
        yield f"Prepackaged server does not handle tensorflow protocol {implementation}"
    if not (own or {}).get("image") and implementation not in servers:
        yield f"No entry in predictors map for {implementation}"


def _traffic(spec: Object) -> Iterator[Invalid]:
    predictors = spec["predictors"]
    shadows = [one for one in predictors if one.get("shadow")]
    for number, one in enumerate(shadows):
        if number:
            yield Invalid("spec", one["name"], "Multiple shadows are not allowed")
        if not 0 <= one.get("traffic", 0) <= 100:
            detail = "shadow traffic is illegal, the traffic number should be between [0, 100]"
            yield Invalid("spec", one["name"], detail)
    total = sum(one.get("traffic", 0) for one in predictors if not one.get("shadow"))
    if total != 100 and len(predictors) - len(shadows) > 1:
        yield Invalid("spec", predictors[0]["name"], "Traffic must sum to 100 for multiple predictors")
    if 0 < total < 100 and len(predictors) == 1:
        yield Invalid("spec", predictors[0]["name"], "Traffic must sum be 100 for a single predictor when set")
