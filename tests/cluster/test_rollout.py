"""Rollouts on a real cluster: what serves on the way and in the end, by real pods, routes and metrics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlplatform.exceptions import ProcessFailed
from airflow_mlplatform.metrics import CANDIDATE_PERCENT, ROLLOUT_STATE
from airflow_mlplatform.serving.state import STATE
from tests.cluster.seldon_endpoint import Endpoint, reach
from tests.cluster.seldon_parts import SDEPS, SeldonParts
from tests.unit.recorded_metrics import recording
from tests.waiting import wait_for

if TYPE_CHECKING:
    from airflow_mlplatform.serving.plan import RolloutPlan
    from airflow_mlplatform.serving.state import Outcome

Json = dict[str, Any]

ERRORS = {"name": "errors", "metric": "error-rate", "max": 0.05, "min_samples": 5}
CANARY = {
    "strategy": "canary",
    "steps": [25, 100],
    "interval": "8s",
    "check_every": "3s",
    "failures": 1,
    "analysis": [ERRORS],
}
STEPS = ("25 %", "100 %", "new model behind the former name", "no requests for the candidate", "one predictor")
LONGER = {**CANARY, "interval": "10m"}


@pytest.fixture(autouse=True)
def reached(seldon: SeldonParts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Airflow's hooks reach the cluster and Prometheus."""
    reach(monkeypatch, seldon.prometheus_url)


@pytest.fixture
def endpoint(seldon: SeldonParts) -> Iterator[Endpoint]:
    """A name on which nothing serves yet."""
    name = seldon.name()
    yield Endpoint(seldon, name)
    seldon.delete(name)


@pytest.fixture
def serving(endpoint: Endpoint) -> Endpoint:
    """An endpoint on which a good model serves."""
    assert endpoint.rolled("good", task="first").result == "done"
    wait_for(lambda: endpoint.seldon.ask(endpoint.name).status_code == 200, "until the gateway knows it")
    return endpoint


@pytest.fixture
def another(seldon: SeldonParts) -> Iterator[Endpoint]:
    """A second name on which nothing serves yet."""
    name = seldon.name()
    yield Endpoint(seldon, name)
    seldon.delete(name)


def test_a_canary_gets_its_share_by_steps_and_then_all(serving: Endpoint) -> None:
    with serving.seldon.load(serving.name, rate=20) as load, recording() as recorder:
        outcome = serving.rolled("better", CANARY)
        wait_for(lambda: serving.seldon.answering(serving.name) == "better", "until better answers")
    percents = [value for name, value in recorder.gauged if name == CANDIDATE_PERCENT.name]
    assert [percent for percent, _ in groupby(percents)] == [25, 100, 0]
    states = {state: value for (_, _, state), value in recorder.of(ROLLOUT_STATE).items()}
    assert states == {"rolling": 0, "paused": 0, "going-back": 0, "none": 1}
    assert (outcome.result, outcome.former_version, outcome.version) == ("done", "good", "better")
    assert outcome.steps == STEPS
    assert set(load.codes()) == {200}, load.problems
    assert [one["name"] for one in serving.resource["spec"]["predictors"]] == ["main"]
    assert STATE not in serving.resource["metadata"]["annotations"]
    assert serving.rolled("better", CANARY, task="b").result == "unchanged"


def test_bad_metrics_bring_back_exactly_what_served(serving: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    before = serving.whole()
    with serving.seldon.load(serving.name, rate=30) as load:
        outcome = serving.rolled("failing", {**CANARY, "interval": "30s"})
    assert (outcome.result, outcome.lasting) == ("aborted", True)
    assert "errors" in outcome.why
    assert "going back: without the candidate" in caplog.text
    # The model answers 500; nobody is sent to servers that are going.
    assert set(load.codes()) == {200, 500}, load.problems
    assert serving.whole() == before
    wait_for(lambda: len(serving.seldon.deployments(serving.name)) == 1, "until the candidate has gone")


def test_a_driver_that_dies_at_each_step_is_continued_by_another(serving: Endpoint, another: Endpoint) -> None:
    before = serving.resource["metadata"]["generation"]
    with serving.seldon.load(serving.name, rate=20) as load:
        outcome, died_at = asyncio.run(killed(serving, serving.plan("better", CANARY)))
    assert (outcome.result, outcome.steps) == ("done", STEPS)
    assert died_at[:4] == STEPS[:4]
    assert serving.resource["metadata"]["generation"] == before + len(STEPS)
    assert set(load.codes()) == {200}, load.problems
    another.rolled("better")
    assert serving.whole() == another.whole()


async def killed(endpoint: Endpoint, wanted: RolloutPlan) -> tuple[Outcome, tuple[str, ...]]:
    """Roll out by drivers of which each dies as soon as it has begun a step; return the end and those steps.

    One may die between the end of the rollout, when no step is noted any more, and its own.
    """
    seen: tuple[str, ...] = ()
    died_at: tuple[str, ...] = ()
    while True:
        driver = asyncio.create_task(endpoint.roll(wanted))
        while not driver.done() and (steps := await asyncio.to_thread(steps_of, endpoint)) == seen:
            await asyncio.wait({driver}, timeout=0.05)
        if driver.done():
            return driver.result(), died_at
        driver.cancel()
        await asyncio.wait({driver})
        seen, died_at = steps, steps or died_at


def steps_of(endpoint: Endpoint) -> tuple[str, ...]:
    return state.steps if (state := endpoint.state) else ()


def test_a_rollback_takes_over_from_a_rollout(serving: Endpoint) -> None:
    before = serving.whole()

    async def both() -> tuple[Outcome, Outcome]:
        rolling = asyncio.create_task(serving.roll(serving.plan("better", LONGER)))
        await serving.until(lambda state: state.ready, "until the canary serves")
        return await serving.roll(serving.way_back()), await rolling

    with serving.seldon.load(serving.name, rate=20) as load:
        back, stopped = asyncio.run(both())
    assert (back.result, stopped.result) == ("done", "stopped")
    assert "wine / rollback / deploy took over (rollback)" in stopped.why
    assert load.seen()["better"] > 0
    assert set(load.codes()) == {200}, load.problems
    assert serving.whole() == before


@pytest.mark.long
@pytest.mark.parametrize("model", ["crashing", "missing"])
def test_servers_that_do_not_come_up_change_nothing(serving: Endpoint, model: str) -> None:
    before = serving.whole()
    outcome = serving.rolled(model, CANARY)
    assert outcome.result == "aborted"
    assert "candidate" in outcome.why
    assert serving.whole() == before


@pytest.mark.long
def test_a_broken_image_of_the_candidate_changes_nothing(serving: Endpoint) -> None:
    before = serving.whole()
    with serving.seldon.load(serving.name, rate=20) as load:
        outcome = serving.rolled("better", CANARY, serving={"image": serving.seldon.image("nosuch")})
    assert outcome.result == "aborted"
    assert serving.seldon.image("nosuch") in outcome.why
    assert set(load.seen()) == {"good"}
    assert set(load.codes()) == {200}, load.problems
    assert serving.whole() == before


@pytest.mark.long
def test_no_traffic_is_a_verdict_of_its_own(serving: Endpoint) -> None:
    before = serving.whole()
    outcome = serving.rolled("better", CANARY)
    assert outcome.result == "aborted"
    assert "too little traffic" in outcome.why
    assert serving.whole() == before


@pytest.mark.long
def test_while_prometheus_is_away_traffic_stays_and_then_goes_back(
    serving: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = serving.whole()

    async def dark() -> Outcome:
        rolling = asyncio.create_task(serving.roll(serving.plan("better", {**CANARY, "interval": "30s"})))
        await serving.until(lambda state: state.ready, "until the canary serves")
        reach(monkeypatch, "http://127.0.0.1:9")
        await serving.until(lambda state: state.dark, "until nobody answers")
        assert serving.shares == [75, 25]
        return await rolling

    outcome = asyncio.run(dark())
    assert (outcome.result, outcome.lasting, outcome.steps) == ("aborted", False, ("25 %",))
    assert "no answer for 30 s at 25 %" in outcome.why
    assert serving.whole() == before


@pytest.mark.long
def test_a_shadow_gets_copies_that_nobody_sees(serving: Endpoint) -> None:
    how = {**CANARY, "strategy": "shadow", "steps": []}
    with serving.seldon.load(serving.name, rate=20) as load:
        outcome = serving.rolled("slow", how)
    assert (outcome.result, outcome.steps) == ("done", ("shadow 100 %", "one predictor"))
    assert load.seen()["good"] > load.seen()["slow"]
    wait_for(lambda: serving.seldon.answering(serving.name) == "slow", "until the shadow answers")


@pytest.mark.long
def test_an_ab_test_without_a_winner_stays(serving: Endpoint) -> None:
    how = {**CANARY, "strategy": "ab", "steps": []}
    with serving.seldon.load(serving.name, rate=20) as load:
        assert serving.rolled("better", how).result == "staying"
        since = load.total
        wait_for(lambda: load.total > since + 100, "until there was traffic")
    seen = load.seen(since)
    assert 0.3 <= seen["better"] / seen.total() <= 0.7
    assert set(load.codes()) == {200}, load.problems
    there = serving.resource["metadata"]["generation"]
    assert serving.rolled("better", how, attempt=2).result == "staying"
    assert (serving.shares, serving.resource["metadata"]["generation"]) == ([50, 50], there)


@pytest.mark.long
def test_an_operator_that_is_away_is_waited_for(serving: Endpoint) -> None:
    serving.seldon.operator.stop()
    try:
        with pytest.raises(ProcessFailed, match="retry goes on"):
            serving.rolled("better", ready_timeout="8s")
    finally:
        serving.seldon.operator.start()
    assert serving.rolled("better", attempt=2).result == "done"


@pytest.mark.long
def test_what_is_there_is_not_believed_while_the_operator_starts_again(
    serving: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def slowly() -> Outcome:
        with serving.seldon.operator.restarting():
            rolling = asyncio.create_task(serving.roll(serving.plan("better")))
            told = "the operator has not brought this version into Deployment"
            await asyncio.to_thread(wait_for, lambda: told in caplog.text, "until it waits")
            assert serving.seldon.answering(serving.name) == "good"
            assert not rolling.done()
        return await rolling

    assert asyncio.run(slowly()).result == "done"
    wait_for(lambda: serving.seldon.answering(serving.name) == "better", "until better answers")


@pytest.mark.long
def test_what_a_person_changes_stays(serving: Endpoint) -> None:
    async def edited() -> Outcome:
        rolling = asyncio.create_task(serving.roll(serving.plan("better", LONGER)))
        await asyncio.to_thread(wait_for, lambda: len(serving.shares) == 2, "until there is a canary")
        change = '[{"op": "replace", "path": "/spec/predictors/0/traffic", "value": 60}, '
        change += '{"op": "replace", "path": "/spec/predictors/1/traffic", "value": 40}]'
        serving.seldon.kubectl("patch", SDEPS, serving.name, "--type=json", "-p", change)
        return await rolling

    outcome = asyncio.run(edited())
    assert outcome.result == "stopped"
    assert "kubectl-patch" in outcome.why
    assert "from 75 to 60" in outcome.why
    assert serving.shares == [60, 40]
