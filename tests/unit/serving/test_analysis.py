"""Judging figures, and what is put into queries; what Prometheus makes of them is in tests/services."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from airflow_mlplatform.clients.http import drive
from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable
from airflow_mlplatform.serving.analysis import Judgement, Requests, Scope, ask
from airflow_mlplatform.serving.judgement import Contender, conclude, elect, judge
from airflow_mlplatform.serving.queries import fill_in, requests_by_code
from airflow_mlplatform.specs.deployment import Analysis, Winner

SCOPE = Scope(deployment="wine", predictor="candidate", namespace="models", window=timedelta(seconds=90.9))
MANY = Requests(total=100)


@pytest.mark.parametrize(
    ("limits", "value", "requests", "verdict", "account"),
    [
        ({"max": 0.5}, 0.5, MANY, "pass", "a: 0.5, max 0.5 hold, of 100 requests"),
        ({"max": 0.5}, 0.51, MANY, "fail", "a: 0.51 is above max 0.5, of 100 requests"),
        ({"min": 0.5}, 0.49, MANY, "fail", "a: 0.49 is below min 0.5, of 100 requests"),
        ({"min": 0, "max": 1}, 0.5, MANY, "pass", "a: 0.5, min 0 and max 1 hold, of 100 requests"),
        ({"max": 0.5}, float("inf"), MANY, "fail", "a: inf is above max 0.5, of 100 requests"),
        ({"max": 0.5}, float("nan"), MANY, "no-traffic", "a: nothing was measured, at 100 requests"),
        ({"max": 0.5}, None, MANY, "no-traffic", "a: nothing was measured, at 100 requests"),
        ({"max": 0.5, "min_samples": 101}, 9, MANY, "no-traffic", "a: 100 requests, 101 are needed to tell"),
        ({"max": 0.5}, 0.0, Requests(total=0), "no-traffic", "a: 0 requests, 1 are needed to tell"),
        ({"max": 0.5, "min_samples": 0}, 0.0, Requests(total=0), "pass", "a: 0, max 0.5 hold, of 0 requests"),
        ({"max": 1}, 0.5, Requests(total=1, failed={"500": 1}), "pass", "a: 0.5, max 1 hold, of 1 request (1 × 500)"),
    ],
)
def test_one_measurement(
    limits: dict[str, Any], value: float | None, requests: Requests, verdict: str, account: str
) -> None:
    found = judge(Analysis(name="a", query="up", **limits), value, requests)
    assert (found.verdict, found.account) == (verdict, account)
    json.dumps(found.model_dump(mode="json"), allow_nan=False)


def test_the_worst_finding_decides() -> None:
    analysis = Analysis(name="a", query="up", max=1)
    good, bad, empty = (judge(analysis, value, MANY) for value in (0, 2, None))
    assert conclude([good, good]).verdict == "pass"
    assert conclude([good, empty]).verdict == "no-traffic"
    found = conclude([good, empty, bad], ["twice", "twice"])
    assert (found.verdict, found.warnings) == ("fail", ("twice",))
    assert found.account.startswith("a: 2 is above max 1")
    assert Judgement.model_validate_json(found.model_dump_json()) == found


def test_without_an_analysis_nobody_is_asked() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(500))
    with httpx.Client(base_url="http://prometheus", transport=transport) as http:
        assert drive(ask((), SCOPE), http).verdict == "pass"
        with pytest.raises(ServiceUnavailable):
            drive(ask((Analysis(name="a", query="up", max=1),), SCOPE), http)


@pytest.mark.parametrize(
    ("best", "by", "candidate", "main", "winner"),
    [
        ("max", 0, 1.0, 1.0, "candidate"),
        ("max", 0.1, 1.0, 1.0, "main"),
        ("max", 0.5, 1.5, 1.0, "candidate"),
        ("min", 0.5, 1.5, 1.0, "main"),
        ("min", 0, float("inf"), float("inf"), "candidate"),
        ("min", 0, float("inf"), 1.0, "main"),
        ("min", 0, None, 1.0, None),
        ("min", 0, 1.0, float("nan"), None),
    ],
)
def test_who_wins(best: Any, by: float, candidate: float | None, main: float | None, winner: str | None) -> None:
    wanted = Winner(query="up{a='$predictor'}", best=best, by=by)
    ours, theirs = (Contender(value=value, requests=MANY) for value in (candidate, main))
    assert elect(wanted, ours, theirs).winner == winner


def test_too_few_requests_of_either_choose_nobody() -> None:
    wanted = Winner(query="up{a='$predictor'}", best="max", min_samples=50)
    enough, few = Contender(value=1, requests=MANY), Contender(value=1, requests=Requests(total=49))
    assert elect(wanted, enough, few).account == "main had 49 requests, 50 are needed to tell"
    assert elect(wanted, few, enough).account == "candidate had 49 requests, 50 are needed to tell"


def test_names_and_window_are_put_in() -> None:
    query = 'x{d="$deployment-$predictor",n=~".*${namespace}$"}[$window] $other $windows $1'
    assert fill_in(query, SCOPE) == 'x{d="wine-candidate",n=~".*models$"}[90s] $other $windows $1'
    assert '{deployment_name="wine",predictor_name="candidate",namespace=~"|models"' in requests_by_code(SCOPE)


@pytest.mark.parametrize("name", ['a"} or vector(0) #', "a.b", "a|b", "", "a\\", "a\n"])
@pytest.mark.parametrize("field", ["deployment", "predictor", "namespace"])
def test_nothing_but_names_is_put_in(field: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{field} .* cannot be put into a query"):
        fill_in("up", SCOPE.model_copy(update={field: name}))


@pytest.mark.parametrize(
    ("analysis", "words"),
    [
        ({"metric": "error-rate", "max": 5}, "write 0.05 for 5 percent"),
        ({"metric": "error-rate", "max": 1}, "write 0.05 for 5 percent"),
        ({"metric": "latency-p99", "max": 250}, "write 0.2 for 200 ms"),
        ({"metric": "latency-p99", "max": 10}, "measured up to 10"),
        ({"query": "up", "min": 2, "max": 1}, "no value can pass"),
        ({"query": "up", "max": 1, "metric": "error-rate"}, "either a metric"),
        ({"query": 'up{a="$predictr"}', "max": 1}, r"\$predictr is unknown; did you mean \$predictor"),
        ({"query": 'up{a="${x}"}', "max": 1}, r"\$x is unknown; use \$deployment"),
    ],
)
def test_what_no_query_could_answer_is_refused(analysis: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Analysis(name="a", **analysis)


def test_a_dollar_may_mean_something_else() -> None:
    Analysis(name="a", query='label_replace(up{b=~".*x$"}, "c", "$1-${n}", "d", "(.*)(?P<n>.*)$")', max=1)


@pytest.mark.parametrize("query", ["up", "up{a='$predictors'}", "up{a='predictor'}"])
def test_a_winner_is_asked_for_each(query: str) -> None:
    with pytest.raises(ValidationError, match="predictor"):
        Winner(query=query, best="max")
