"""How rollouts are judged: a real Prometheus and candidates that do well, badly, slowly, or nothing."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from airflow_mlplatform.clients.http import drive
from airflow_mlplatform.clients.prometheus import PrometheusClient
from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.serving.analysis import Judgement, Requests, Scope, ask, choose, requests_in
from airflow_mlplatform.serving.queries import requests_by_code
from airflow_mlplatform.specs.deployment import Analysis, Winner
from tests.services.prometheus_server import SERVER, Executor
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.prometheus_server import PrometheusServer

NAMESPACE = "models"
ERRORS = Analysis(name="errors", metric="error-rate", max=0.01)
SLOW = Analysis(name="p95", metric="latency-p95", max=0.2)


@dataclass
class Stage:
    """One SeldonDeployment, and a step of its rollout that began when the test did."""

    prometheus: PrometheusServer
    client: PrometheusClient
    name: str = field(default_factory=lambda: f"wine-{uuid4().hex[:8]}")
    since: float = field(default_factory=time.monotonic)

    def pod(self, predictor: str = "candidate", **labels: str) -> Executor:
        return self.prometheus.scrape(Executor(self.name, predictor), **({"namespace": NAMESPACE} | labels))

    def next_step(self) -> None:
        # What was seen must be older than any window, which is whole seconds.
        seen = time.monotonic()
        wait_for(lambda: time.monotonic() - seen > 1.0)
        self.since = time.monotonic()

    def scope(self, predictor: str = "candidate", namespace: str = NAMESPACE) -> Scope:
        window = timedelta(seconds=math.ceil(time.monotonic() - self.since))
        return Scope(deployment=self.name, predictor=predictor, namespace=namespace, window=window)

    def requests(self, predictor: str = "candidate", namespace: str = NAMESPACE) -> Requests:
        return requests_in(self.client.query(requests_by_code(self.scope(predictor, namespace))))

    def seen(self, total: int, predictor: str = "candidate", namespace: str = NAMESPACE) -> Requests:
        wait_for(
            lambda: self.requests(predictor, namespace).total == total,
            f"for {total} requests, there are {self.requests(predictor, namespace)}",
            10,
        )
        return self.requests(predictor, namespace)

    def ask(self, *analyses: Analysis, namespace: str = NAMESPACE) -> Judgement:
        return drive(ask(analyses, self.scope(namespace=namespace)), self.client.http)


@pytest.fixture
def stage(prometheus: PrometheusServer) -> Iterator[Stage]:
    with PrometheusClient(prometheus.reached) as client:
        yield Stage(prometheus, client)


def test_a_good_candidate_passes(stage: Stage) -> None:
    stage.pod().answers(198).answers(1, code="500").answers(1, seconds=3)
    stage.seen(200)
    found = stage.ask(ERRORS, SLOW)
    assert (found.verdict, found.warnings) == ("pass", ())
    assert found.findings[0].account == "errors: 0.005, max 0.01 hold, of 200 requests (1 × 500)"
    assert found.findings[1].value == pytest.approx(0.024, abs=0.002)


@pytest.mark.parametrize("code", ["500", "503", "400", "Internal"])
def test_a_bad_candidate_fails(stage: Stage, code: str) -> None:
    stage.pod().answers(90).answers(10, code=code)
    assert stage.seen(100) == Requests(total=100, failed={code: 10})
    found = stage.ask(ERRORS, SLOW)
    assert [finding.verdict for finding in found.findings] == ["fail", "pass"]
    assert found.account.startswith(f"errors: 0.1 is above max 0.01, of 100 requests (10 × {code}); p95")


def test_a_slow_candidate_fails(stage: Stage) -> None:
    stage.pod().answers(90).answers(10, seconds=0.4)
    stage.seen(100)
    found = stage.ask(ERRORS, SLOW, Analysis(name="p50", metric="latency-p50", max=0.2))
    assert [finding.verdict for finding in found.findings] == ["pass", "fail", "pass"]


def test_one_that_is_slower_than_can_be_measured_fails(stage: Stage) -> None:
    stage.pod().answers(100, seconds=60)
    stage.seen(100)
    found = stage.ask(Analysis(name="p99", metric="latency-p99", max=9.9))
    assert (found.verdict, found.findings[0].value) == ("fail", 10)


def test_a_silent_candidate_is_no_traffic(stage: Stage) -> None:
    stage.pod().answers(0)
    assert stage.ask(ERRORS, SLOW).verdict == "no-traffic"
    assert stage.ask(ERRORS).account == "errors: 0 requests, 1 are needed to tell"


def test_too_few_requests_are_no_traffic_whatever_they_say(stage: Stage) -> None:
    stage.pod().answers(9, code="500")
    stage.seen(9)
    many = ERRORS.model_copy(update={"min_samples": 10})
    assert stage.ask(many).verdict == "no-traffic"
    assert stage.ask(many, ERRORS).verdict == "fail"


def test_one_whose_pod_is_seen_for_the_first_time_after_its_first_requests(stage: Stage) -> None:
    """`increase` would see neither these requests nor, of a series that is new, the first error."""
    stage.pod().answers(3, code="500")
    assert stage.seen(3).failed == {"500": 3}
    assert stage.ask(ERRORS).verdict == "fail"


def test_the_first_error_of_a_pod_that_is_known(stage: Stage) -> None:
    pod = stage.pod().answers(9)
    stage.seen(9)
    pod.answers(1, code="502")
    assert stage.seen(10).failed == {"502": 1}


def test_the_next_step_begins_with_nothing(stage: Stage) -> None:
    pod = stage.pod().answers(50, code="500")
    stage.seen(50)
    stage.next_step()
    assert stage.seen(0) == Requests(total=0)
    pod.answers(20)
    assert stage.seen(20) == Requests(total=20)
    assert stage.ask(ERRORS).verdict == "pass"


def test_an_executor_that_starts_anew(stage: Stage) -> None:
    pod = stage.pod().answers(50)
    stage.seen(50)
    pod.restart()
    pod.answers(30, code="500")
    wait_for(lambda: stage.requests().failed.get("500") == 30, timeout=10)
    assert stage.ask(ERRORS).verdict == "fail"


def test_a_counter_that_starts_anew_is_no_negative_number(stage: Stage) -> None:
    pod = stage.pod().answers(50)
    stage.seen(50)
    stage.next_step()
    pod.restart()
    pod.answers(20)
    # What an executor counted between its last scrape and its end, nobody knows.
    wait_for(lambda: 15 <= stage.requests().total <= 40, timeout=10)


def test_an_executor_that_starts_anew_as_the_step_begins(stage: Stage) -> None:
    pod = stage.pod().answers(50)
    stage.seen(50)
    begun = datetime.now(UTC)
    pod.restart()
    pod.answers(20)
    series = f'{SERVER}_count{{deployment_name="{stage.name}"}}'
    wait_for(lambda: [one.value for one in stage.client.query(series).samples] == [20])
    window = timedelta(seconds=(datetime.now(UTC) - begun).seconds + 1)
    scope = stage.scope().model_copy(update={"window": window})
    assert requests_in(stage.client.query(requests_by_code(scope), begun + window)) == Requests(total=20)


def test_several_replicas_are_one_candidate(stage: Stage) -> None:
    stage.pod().answers(40)
    stage.pod().answers(40)
    stage.pod().answers(20, code="500")
    assert stage.seen(100).error_rate == 0.2


def test_what_a_pod_that_is_gone_did_counts(stage: Stage) -> None:
    gone = stage.pod().answers(40, code="500")
    stage.pod().answers(60)
    stage.seen(100)
    stage.prometheus.pods.remove(gone)
    wait_for(lambda: not stage.client.query(f'{SERVER}_count{{deployment_name="{stage.name}",code="500"}}').samples)
    assert stage.requests() == Requests(total=100, failed={"500": 40})


def test_only_the_predictor_that_is_meant(stage: Stage) -> None:
    stage.pod("main").answers(100, code="500")
    stage.pod("candidate").answers(10)
    stage.seen(100, "main")
    assert stage.seen(10) == Requests(total=10)


@pytest.mark.parametrize("label", ["namespace", "kubernetes_namespace"])
def test_two_namespaces_with_the_same_name(stage: Stage, label: str) -> None:
    pods = {name: Executor(stage.name) for name in (NAMESPACE, "elsewhere")}
    for name, pod in pods.items():
        stage.prometheus.scrape(pod, **{label: name})
    pods["elsewhere"].answers(10, code="500")
    pods[NAMESPACE].answers(10)
    stage.seen(10, namespace="elsewhere")
    assert stage.seen(10) == Requests(total=10)
    assert stage.ask(ERRORS).warnings == ()


def test_a_scrape_without_namespaces_is_told(stage: Stage) -> None:
    stage.prometheus.scrape(Executor(stage.name)).answers(10)
    stage.seen(10)
    found = stage.ask(ERRORS)
    assert found.verdict == "pass"
    assert "does not know in which namespace" in found.warnings[0]


def test_only_predictions_count(stage: Stage) -> None:
    pod = stage.pod().answers(10)
    pod.answers(1, code="500", service="feedback").answers(2, code="404", service="status", method="get")
    pod.answers(4, code="500", service="metadata", method="get").answers(8, service="predictions", method="options")
    pod.answers(3, code="OK", service="/inference.GRPCInferenceService/ModelInfer", method="unary")
    pod.answers(5, code="OK", service="/seldon.protos.Seldon/Predict", method="unary")
    pod.answers(9, code="Unavailable", service="/inference.GRPCInferenceService/ServerReady", method="unary")
    pod.answers(7, code="Unavailable", service="/grpc.health.v1.Health/Check", method="unary")
    assert stage.seen(18) == Requests(total=18)


def test_the_scrape_of_a_service_takes_a_label_away(stage: Stage) -> None:
    pod = stage.prometheus.scrape_service(Executor(stage.name), namespace=NAMESPACE)
    pod.answers(10).answers(5, code="500", service="feedback")
    assert stage.seen(10) == Requests(total=10)
    labels = stage.client.query(f'{SERVER}_count{{deployment_name="{stage.name}"}}').samples[0].labels
    assert labels["service"] == "any-service"


def test_the_page_of_a_real_executor(stage: Stage) -> None:
    page = (Path(__file__).parent / "executor_page.txt").read_bytes()
    stage.prometheus.scrape(Executor(fixed=page.replace(b'"iris"', f'"{stage.name}"'.encode())), namespace=NAMESPACE)
    assert stage.seen(10, "main") == Requests(total=10, failed={"404": 1, "500": 2})


def test_the_executors_of_these_tests_are_like_a_real_one() -> None:
    def shape(page: bytes) -> set[tuple[str, ...]]:
        lines = [line for line in page.decode().splitlines() if line.startswith(SERVER) and "predictions" in line]
        series = [line.rpartition("}")[0].partition("{") for line in lines]
        return {(name, *sorted(pair.partition("=")[0] for pair in pairs.split(","))) for name, _, pairs in series}

    recorded = (Path(__file__).parent / "executor_page.txt").read_bytes()
    played = Executor("iris").answers(1).page()
    assert shape(played) == shape(recorded)
    for bound in ("0.005", "0.75", "10", "+Inf"):
        assert f'le="{bound}"'.encode() in recorded


def own(query: str, **limits: Any) -> Analysis:
    return Analysis(name="own", query=query, **({"max": 1} | limits))


SERIES = f'{SERVER}_count{{deployment_name="$deployment",predictor_name="$predictor",namespace="$namespace"}}'
# Not the series as they are at this moment: a scrape that fails ends them until the next one.
COUNT = f"sum(last_over_time({SERIES}[1m]))"


@pytest.mark.parametrize(
    ("query", "verdict", "account"),
    [
        (COUNT, "fail", "10 is above max 1"),
        (f"{COUNT} / 100", "pass", "0.1, max 1 hold"),
        (f"sum(last_over_time({SERIES}[${{window}}])) / 100", "pass", "0.1"),
        ("0.5", "pass", "0.5, max 1 hold"),
        ("vector(0.5)", "pass", "0.5, max 1 hold"),
        ('label_replace(vector(0.5), "a", "$1", "", "(.*)$")', "pass", "0.5"),
        (f"{COUNT} / 0", "fail", "inf is above max 1"),
        (f"-{COUNT} / 0", "pass", "-inf, max 1 hold"),
        (f"0 * {COUNT} / 0", "no-traffic", "nothing was measured"),
        ("scalar(absent_metric)", "no-traffic", "nothing was measured"),
        ("absent_metric", "no-traffic", "nothing was measured"),
        (f'last_over_time({SERVER}_bucket{{deployment_name="$deployment"}}[1m])', "fail", "answers 15 series"),
        ('"ten"', "fail", "answers a text"),
        ("up[1m]", "fail", "answers a range of values"),
    ],
)
def test_every_answer_has_a_verdict(stage: Stage, query: str, verdict: str, account: str) -> None:
    stage.pod().answers(10)
    stage.seen(10)
    found = stage.ask(own(query))
    assert (found.verdict, found.findings[0].name) == (verdict, "own")
    assert account in found.account
    assert Judgement.model_validate_json(found.model_dump_json()) == found


def test_own_query_without_requests(stage: Stage) -> None:
    stage.pod()
    assert stage.ask(own("0.5")).verdict == "no-traffic"
    assert stage.ask(own("0.5", min_samples=0)).verdict == "pass"


@pytest.mark.parametrize("query", ["sum(", "rate(up)", 'up{a="$deployment}', "up + on(job) up{instance=~'.+'} == bool"])
def test_a_query_that_cannot_be_read_is_a_mistake(stage: Stage, query: str) -> None:
    with pytest.raises(ConfigurationError, match="correct the query") as caught:
        stage.ask(own(query))
    assert query.replace("$deployment", stage.name) in str(caught.value)


def test_a_query_that_cannot_be_evaluated_is_a_mistake(stage: Stage) -> None:
    stage.pod().answers(1)
    stage.pod().answers(1)
    stage.seen(2)
    series = f'last_over_time({SERVER}_count{{deployment_name="$deployment"}}[1m])'
    with pytest.raises(ConfigurationError, match="many-to-many|duplicate series"):
        stage.ask(own(f"{series} * on(code) {series}"))


@pytest.mark.parametrize(
    ("best", "by", "main", "winner"),
    [("min", 0, 20, "candidate"), ("min", 0.2, 20, "main"), ("max", 0, 20, "main"), ("min", 0, 10, "candidate")],
)
def test_the_winner_of_two(stage: Stage, best: Any, by: float, main: int, winner: str) -> None:
    stage.pod("main").answers(100 - main).answers(main, code="500")
    stage.pod("candidate").answers(90).answers(10, code="500")
    stage.seen(100, "main")
    stage.seen(100)
    query = COUNT.replace("}", ',code="500"}') + f" / {COUNT}"
    wanted = Winner(query=query, best=best, by=by)
    found = drive(choose(wanted, stage.scope("candidate"), stage.scope("main")), stage.client.http)
    assert found.winner == winner
    assert f"candidate 0.1 of 100 requests (10 × 500), main {main / 100:g} of" in found.account
    picky = wanted.model_copy(update={"min_samples": 101})
    assert drive(choose(picky, stage.scope("candidate"), stage.scope("main")), stage.client.http).winner is None
