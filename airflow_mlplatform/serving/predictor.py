"""One predictor of a SeldonDeployment: servers of one model.

What a predictor bears, the operator 1.17.1 hands to its pods: a changed annotation or label starts them anew, a changed
weight or number of replicas does not. So nothing is in it that differs from run to run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.serving.component import components
from airflow_mlplatform.serving.model import ServableModel
from airflow_mlplatform.specs.deployment import DNS_LABEL, Serving

__all__ = ["CANDIDATE", "MAIN", "MARK", "NODE", "main_name", "mark_of", "predictor", "protocol", "sharing"]

Manifest = dict[str, Any]
Json = Mapping[str, Any]

MAIN, CANDIDATE = "main", "candidate"
"""Names of the predictors."""
NODE = "model"
"""Name of the graph's node and of its container, and so the model's name in requests of protocol v2."""
MARK = "mlplatform.airflow/mark"
"""Label of a predictor and, by the operator, of its Deployments and pods: changes with what makes the pods."""
PREFIX = "mlplatform.airflow"
MODEL_SERVER = "MLFLOW_SERVER"
SHADOW = "-shadow"
V2 = ("v2", "kfserving")
# The operator changes neither pods nor their template for these.
NO_PODS = ("traffic", "replicas")


def protocol(serving: Serving) -> str:
    """Return the inference protocol: that of the template, if the spec does not say another."""
    given = (serving.template.get("spec") or {}).get("protocol")
    return str(given) if given and "protocol" not in serving.model_fields_set else serving.protocol


def main_name(serving: Serving) -> str:
    """Return the name of the predictor that serves: that of the template's, or ``main``."""
    return str(_given(serving).get("name") or MAIN)


def predictor(serving: Serving, model: ServableModel, name: str = MAIN) -> Manifest:
    """Return a predictor that serves a model with all traffic.

    :param serving: the model server; its template's predictor is completed. Serialized, it must keep which keys were
        given (``model_dump(exclude_unset=True)``): only those win over the template.
    :param model: the model.
    :param name: name of the predictor.
    :raises ConfigurationError: if the template cannot be completed, or a secret would show.
    """
    found: Manifest = {**deepcopy(_given(serving)), "name": name}
    graph = found["graph"] = {"name": NODE, **(found.get("graph") or {})}
    node = _server(graph)
    node |= _served(serving, model, node)
    # The operator sets these probes itself for the servers that it knows.
    probed = node.get("implementation") == MODEL_SERVER and protocol(serving) in V2
    found["componentSpecs"] = components(serving, str(node["name"]), found.get("componentSpecs") or (), v2=probed)
    _sized(serving, found)
    found["progressDeadlineSeconds"] = int(serving.ready_timeout.total_seconds())
    found["annotations"] = {**(found.get("annotations") or {}), **_told(model)}
    for what, text in (("name", name), *(("graph.name", str(one["name"])) for one in _nodes(graph))):
        _check_name(what, text)
    found["labels"] = {**(found.get("labels") or {}), MARK: _mark(serving, found)}
    return sharing(found, 100)


def sharing(predictor: Json, traffic: int, *, shadow: bool = False) -> Manifest:
    """Return a predictor with another share of the requests; its pods stay unless it becomes, or was, a shadow.

    :param predictor: as a SeldonDeployment has it, whoever made it.
    :param traffic: percent of the requests; of a shadow, percent that is copied to it.
    :param shadow: whether it gets copies and nobody its answers.
    """
    found = {key: deepcopy(value) for key, value in predictor.items() if key != "shadow"} | {"traffic": traffic}
    if shadow:
        found["shadow"] = True
    if mark := mark_of(predictor).removesuffix(SHADOW):
        found["labels"] = {**found["labels"], MARK: mark + (SHADOW if shadow else "")}
    return found


def mark_of(bearer: Json) -> str:
    """Return the mark of a predictor, or of the metadata of an object; empty if somebody else made it."""
    return str((bearer.get("labels") or {}).get(MARK) or "")


def _given(serving: Serving) -> Manifest:
    predictors = (serving.template.get("spec") or {}).get("predictors") or [{}]
    if len(predictors) > 1:
        raise ConfigurationError(
            f"serving.template has {len(predictors)} predictors; keep the one that is to be completed: a rollout makes "
            "the second by itself"
        )
    return dict(predictors[0])


def _server(unit: Manifest) -> Manifest:
    """Return the node of a graph that serves a model of MLflow; its first node, if none says so."""
    return next((one for one in _nodes(unit) if one.get("implementation") == MODEL_SERVER), unit)


def _nodes(unit: Manifest) -> Iterator[Manifest]:
    yield unit
    for child in unit.get("children") or ():
        yield from _nodes(child)


def _served(serving: Serving, model: ServableModel, given: Json) -> Manifest:
    node: Manifest = {"modelUri": model.uri}
    if not given.keys() & {"implementation", "type", "methods"}:
        node["implementation"] = MODEL_SERVER
    if serving.storage_secret:
        node["envSecretRefName"] = serving.storage_secret
    if serving.service_account:
        node["serviceAccountName"] = serving.service_account
    if serving.parameters:
        own = {name: _parameter(name, value) for name, value in serving.parameters.items()}
        node["parameters"] = list(({one["name"]: one for one in given.get("parameters") or ()} | own).values())
    return node


def _parameter(name: str, value: str | float | bool) -> Manifest:
    if isinstance(value, bool):
        return {"name": name, "type": "BOOL", "value": str(value).lower()}
    kinds: dict[type, str] = {int: "INT", float: "FLOAT"}
    return {"name": name, "type": kinds.get(type(value), "STRING"), "value": str(value)}


def _sized(serving: Serving, found: Manifest) -> None:
    scaled = any(one.keys() & {"hpaSpec", "kedaSpec"} for one in found["componentSpecs"])
    if scaled:
        found.pop("replicas", None)
    elif "replicas" in serving.model_fields_set or "replicas" not in found:
        found["replicas"] = serving.replicas


def _told(model: ServableModel) -> dict[str, str]:
    told = {"model": model.name, "version": model.version, "mlflow_run": model.run_id}
    # The engine's metrics bear the annotation `version` as a label.
    version = {"version": model.version} if model.version else {}
    return version | {f"{PREFIX}/{key}": value for key, value in told.items() if value}


def _check_name(what: str, name: str) -> None:
    if not re.fullmatch(DNS_LABEL, name):
        raise ConfigurationError(
            f"serving.template: the predictor's {what} is {name!r}, and the operator makes names of Services of it; "
            "use lower case letters, digits and dashes"
        )


def _mark(serving: Serving, found: Json) -> str:
    shared = {key: value for key, value in (serving.template.get("spec") or {}).items() if key != "predictors"}
    pods = {key: value for key, value in found.items() if key not in NO_PODS}
    text = json.dumps([protocol(serving), shared, pods], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
