"""Prometheus' query API, each call once. The clients in ``prometheus.py`` drive these.

The API, which Thanos, Mimir and VictoriaMetrics speak too: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlplatform.clients.http import Operation, Request, unavailable
from airflow_mlplatform.clients.prometheus_entities import Answer, RangeAnswer
from airflow_mlplatform.exceptions import ConfigurationError, ServiceRefused, ServiceUnavailable

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    import httpx

    from airflow_mlplatform.exceptions import MlplatformError

LONGEST_QUOTE = 500
NOT_PROMETHEUS = "see that the connection names Prometheus' own address, with the path it has behind an ingress"


def query(promql: str, at: datetime | None = None) -> Operation[Answer]:
    """Evaluate an expression at one moment.

    :param promql: the expression.
    :param at: when; Prometheus' own now if ``None``.
    :raises ConfigurationError: if Prometheus cannot evaluate it.
    """
    params = {"query": promql} | ({"time": str(at.timestamp())} if at else {})
    answer = _interpret((yield Request("GET", "/api/v1/query", params=params)), promql)
    return Answer.parse(answer["data"], _warnings(answer))


def query_range(promql: str, start: datetime, end: datetime, step: timedelta) -> Operation[RangeAnswer]:
    """Evaluate an expression at several moments.

    :param promql: the expression.
    :param start: the first moment.
    :param end: no moment after this one.
    :param step: time between two moments; Prometheus allows 11,000 moments.
    :raises ConfigurationError: if Prometheus cannot evaluate it.
    """
    params = {
        "query": promql,
        "start": str(start.timestamp()),
        "end": str(end.timestamp()),
        "step": str(step.total_seconds()),
    }
    answer = _interpret((yield Request("GET", "/api/v1/query_range", params=params)), promql)
    return RangeAnswer.parse(answer["data"], _warnings(answer))


def _interpret(response: httpx.Response, promql: str) -> dict[str, Any]:
    answer = _json(response)
    if response.is_success and answer.get("status") == "success" and isinstance(answer.get("data"), dict):
        return answer
    raise _error(response, answer, promql)


def _error(response: httpx.Response, answer: dict[str, Any], promql: str) -> MlplatformError:
    where = f"Prometheus at {response.request.url.copy_with(path='/', query=None)}"
    why = _reason(response, answer)
    if unavailable(response):
        return ServiceUnavailable(f"{where} cannot answer now: {why}; see that it runs and is not overloaded")
    # 400 is a query that cannot be read, 422 one that cannot be evaluated.
    if response.status_code in (400, 422) and answer.get("status") == "error":
        return ConfigurationError(f"{where} cannot evaluate {promql}: {why}; correct the query")
    if response.status_code in (401, 403):
        return ServiceRefused(f"{where}: {why}; correct login, password, token or headers in the connection")
    return ServiceRefused(f"{where} does not answer as Prometheus does: {why}; {NOT_PROMETHEUS}")


def _reason(response: httpx.Response, answer: dict[str, Any]) -> str:
    status = f"{response.status_code} {response.reason_phrase}"
    plain = response.headers.get("content-type", "").startswith("text/plain") or "content-type" not in response.headers
    text = str(answer.get("error") or (plain and response.text.strip()) or status)
    return text[:LONGEST_QUOTE]


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _warnings(answer: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(text) for key in ("warnings", "infos") for text in answer.get(key) or ())
