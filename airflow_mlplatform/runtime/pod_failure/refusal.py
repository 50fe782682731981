"""Why the API server did not create a pod."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from airflow_mlplatform.runtime.pod_failure.facts import Json, PodFailure

__all__ = ["refusal"]

SUFFIXES = {suffix: 1000.0**power for power, suffix in enumerate(["", "k", "M", "G", "T", "P", "E"])} | {
    suffix: 1024.0**power for power, suffix in enumerate(["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"], 1)
}
QUANTITY = re.compile(r"^(?P<number>[0-9.]+)(?P<suffix>[kMGTPE]i?|Ki|m)?$")
# Admission rules may answer with a status of their choice.
RULE = re.compile(r"^pods \S+ is forbidden: |denied the request")
QUOTA = re.compile(r"exceeded quota: .*?requested: (?P<requested>\S+), used: \S+, limited: (?P<limited>\S+)")

# In a 403, the first that fits: reason and what to do next. What fits none was refused by an admission rule.
FORBIDDEN = [
    (re.compile(r"^\w+ is forbidden: User "), "NotAllowed", "give that account the role that the message names"),
    (
        re.compile(r"violates PodSecurity"),
        "Refused",
        "the namespace allows only pods that meet its Pod Security level; change what the message lists",
    ),
    (re.compile(r"must specify "), "Refused", "the namespace has a quota on it; set resources"),
    (re.compile(r"service account"), "Refused", "create the service account, or correct service_account"),
    (
        re.compile(r"is being terminated"),
        "NoNamespace",
        "use another namespace, or wait until it is gone and make it again",
    ),
    (re.compile(r"(maximum|minimum) .* usage per"), "Refused", "the namespace has a LimitRange; change resources"),
]


def refusal(status: int, body: str | bytes | Json, what: str) -> PodFailure:
    """Tell why the API server refused to create a pod.

    :param status: HTTP status code of its answer; 0 if it did not answer.
    :param body: its answer: a ``Status`` object as JSON or mapping, or any text.
    :param what: what was to be created, such as ``pod train-1 in namespace ml``.
    """
    message = _message(body)
    if status == 403 or RULE.search(message):
        return _forbidden(message, what)
    if status == 404:
        return PodFailure("NoNamespace", f"{what} was not created: {message}; create the namespace", lasting=True)
    if status in (400, 413, 422):
        then = "correct the field that it names; its values come from the spec and the pod template"
        return PodFailure("Invalid", f"{what} was not created: {message}; {then}", lasting=True)
    then = "the credentials are not valid (any more)" if status == 401 else "the API server may take it later"
    return PodFailure("Unavailable", f"{what} was not created: {message or 'no answer'} (HTTP {status}); {then}")


def _message(body: str | bytes | Json) -> str:
    if isinstance(body, Mapping):
        return str(body.get("message") or "")
    try:
        parsed: Any = json.loads(body)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict):
        return str(parsed.get("message") or "")
    return (body if isinstance(body, str) else body.decode(errors="replace")).strip()


def _forbidden(message: str, what: str) -> PodFailure:
    if quota := QUOTA.search(message):
        never = _never_fits(quota["requested"], quota["limited"])
        then = "ask for less, or raise the quota" if never else "it fits when other pods of the namespace have ended"
        return PodFailure("QuotaExceeded", f"{what} was refused: {message}; {then}", lasting=never)
    for pattern, reason, then in FORBIDDEN:
        if pattern.search(message):
            return PodFailure(reason, f"{what} was refused: {message}; {then}", lasting=True)
    return PodFailure("Refused", f"{what} was refused: {message}; change the spec, or that rule", lasting=True)


def _never_fits(requested: str, limited: str) -> bool:
    """Whether the pod alone asks for more than the quota allows in all."""
    allowed = dict(part.split("=", 1) for part in limited.split(",") if "=" in part)
    asked = dict(part.split("=", 1) for part in requested.split(",") if "=" in part)
    return any(_quantity(amount) > _quantity(allowed[name]) for name, amount in asked.items() if name in allowed)


def _quantity(text: str) -> float:
    matched = QUANTITY.match(text)
    if not matched:
        return 0.0
    suffix = matched["suffix"] or ""
    return float(matched["number"]) * (0.001 if suffix == "m" else SUFFIXES[suffix])
