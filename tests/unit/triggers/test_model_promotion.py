from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlplatform.metrics import VERDICTS
from airflow_mlplatform.promotion.waiting import PromotionEvent, decode_event
from airflow_mlplatform.triggers.model_promotion import ModelPromotionTrigger
from tests.unit.promotion.fake_registry import FakeRegistry, down, unauthorised
from tests.unit.recorded_metrics import recording

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

GATE = {"metrics": [{"name": "rmse", "max": 0.9}]}
TICK = 0.01


def trigger(**more: Any) -> ModelPromotionTrigger:
    arguments = {"model": {"name": "wine"}, "gate": GATE, "poll_interval": TICK, **more}
    # As Airflow does it: written to JSON, made anew in another process.
    _, kwargs = ModelPromotionTrigger(**arguments).serialize()
    return ModelPromotionTrigger(**json.loads(json.dumps(kwargs)))


async def fired(one: ModelPromotionTrigger) -> PromotionEvent:
    events = [event async for event in one.run()]
    assert len(events) == 1
    return decode_event(json.loads(json.dumps(events[0].payload)))


async def running(one: ModelPromotionTrigger, until: Callable[[], bool]) -> asyncio.Task[PromotionEvent]:
    """Start the trigger and wait until something has come true while it waits."""
    task = asyncio.create_task(fired(one))
    async with asyncio.timeout(10):
        while not until():
            assert not task.done(), task.result()
            await asyncio.sleep(TICK)
    return task


async def end(task: asyncio.Task[PromotionEvent]) -> PromotionEvent:
    async with asyncio.timeout(10):
        return await task


async def test_a_candidate_that_is_good_enough_at_once(registry: FakeRegistry) -> None:
    registry.train(alias="challenger", rmse=0.8)
    event = await fired(trigger())
    assert event.ending == "promoted"
    assert event.verdict is not None
    assert event.verdict["promote"] is True
    assert event.url == "http://mlflow.test/#/models/wine/versions/1"
    assert registry.tags(1) == {
        "mlplatform.verdict": "promote",
        "mlplatform.verdict.reasons": "rmse 0.8: is at most 0.9",
    }


@pytest.mark.parametrize("on_refusal", ["wait", "skip", "fail"])
async def test_it_waits_for_the_first_candidate(registry: FakeRegistry, on_refusal: str) -> None:
    task = await running(trigger(on_refusal=on_refusal), lambda: len(registry.requests) > 4)
    registry.train(alias="challenger", rmse=0.8)
    assert (await end(task)).ending == "promoted"


async def test_it_waits_for_a_better_one_and_tells_each_verdict_once(
    registry: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.train(alias="challenger", rmse=2.0)
    with recording() as recorder:
        task = await running(trigger(), lambda: len(registry.requests) > 20)
        assert registry.tags(1)["mlplatform.verdict"] == "refused"
        registry.train(alias="challenger", rmse=0.5)
        assert (await end(task)).verdict["candidate"]["version"] == 2  # type: ignore[index,call-overload]
    assert recorder.of(VERDICTS) == {("wine", "refused"): 1, ("wine", "promote"): 1}
    told = capsys.readouterr().out
    assert told.count("version 1: refused") == 1
    assert told.count("version 2: worth promoting") == 1
    tagged = [arguments["version"] for call, arguments in registry.requests if call.endswith("set-tag")]
    assert tagged == ["1", "1", "2", "2"]


async def test_a_nan_metric_is_told_once_too(registry: FakeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    registry.train(alias="challenger")
    registry.runs["wine-1"]["data"]["metrics"] = [{"key": "rmse", "value": "NaN"}]
    task = await running(trigger(), lambda: len(registry.requests) > 20)
    task.cancel()
    assert capsys.readouterr().out.count("version 1: refused") == 1


@pytest.mark.parametrize(("on_refusal", "ending"), [("skip", "skipped"), ("fail", "refused")])
async def test_a_refused_candidate_ends_the_wait_if_asked(registry: FakeRegistry, on_refusal: str, ending: str) -> None:
    registry.train(alias="challenger", rmse=2.0)
    event = await fired(trigger(on_refusal=on_refusal))
    assert event.ending == ending
    assert "rmse 2: is above 0.9" in event.message
    assert event.xcoms["return_value"] == event.verdict


@pytest.mark.parametrize("on_refusal", ["skip", "fail"])
async def test_the_champion_as_candidate_means_nothing_to_do(registry: FakeRegistry, on_refusal: str) -> None:
    registry.train(alias="challenger", rmse=0.5)
    registry.models["wine"]["aliases"]["champion"] = 1
    registry.tags(1)["mlplatform.verdict"] = "promote"
    assert (await fired(trigger(on_refusal=on_refusal))).ending == "skipped"
    assert registry.tags(1)["mlplatform.verdict"] == "promote"


async def test_an_outage_is_borne_and_told_once(registry: FakeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    tries = 0

    def away(request: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += 1
        return down(request)

    registry.fault = away
    registry.train(alias="challenger", rmse=0.8)
    task = await running(trigger(), lambda: tries > 3)
    registry.fault = lambda request: None
    assert (await end(task)).ending == "promoted"
    assert capsys.readouterr().out.count("does not answer") == 1


async def test_an_outage_while_tags_are_written_does_not_lose_them(registry: FakeRegistry) -> None:
    registry.train(alias="challenger", rmse=0.8)
    failed = False

    def once(request: httpx.Request) -> httpx.Response | None:
        nonlocal failed
        if request.url.path.endswith("set-tag") and not failed:
            failed = True
            return down(request)
        return None

    registry.fault = once
    assert (await fired(trigger())).ending == "promoted"
    assert registry.tags(1)["mlplatform.verdict"] == "promote"


async def test_a_refused_request_ends_at_once_with_what_to_do(registry: FakeRegistry) -> None:
    registry.fault = unauthorised
    event = await fired(trigger())
    assert event.ending == "error"
    assert "correct login, password or token in the connection" in event.message


async def test_who_may_only_read_gets_a_verdict_without_tags(
    registry: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.train(alias="challenger", rmse=0.8)
    registry.fault = lambda request: unauthorised(request) if request.url.path.endswith("set-tag") else None
    assert (await fired(trigger())).ending == "promoted"
    assert "not on the model version as tags" in capsys.readouterr().out


async def test_a_connection_that_does_not_exist_ends_at_once(registry: FakeRegistry) -> None:
    event = await fired(trigger(mlflow_conn_id="nowhere"))
    assert event.ending == "error"
    assert "nowhere" in event.message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": {"nam": "wine"}}, "model.name"),
        ({"gate": {"metrics": [{"name": "rmse", "max": "much"}]}}, "gate.metrics.0.max"),
    ],
)
async def test_arguments_that_render_to_nonsense_end_at_once(
    registry: FakeRegistry, arguments: dict[str, Any], words: str
) -> None:
    event = await fired(trigger(**arguments))
    assert event.ending == "error"
    assert words in event.message


async def test_numbers_that_templates_turned_into_text(registry: FakeRegistry) -> None:
    registry.train(alias="challenger", rmse=0.8)
    assert (await fired(trigger(gate={"metrics": [{"name": "rmse", "max": "0.9"}]}))).ending == "promoted"


async def test_the_deadline_ends_the_wait_with_the_last_verdict(registry: FakeRegistry) -> None:
    registry.train(alias="challenger", rmse=2.0)
    event = await fired(trigger(deadline=datetime.now(UTC).timestamp() + 5 * TICK))
    assert event.ending == "timeout"
    assert "rmse 2: is above 0.9" in event.message
    assert event.verdict is not None


async def test_a_deadline_that_passed_while_the_triggerer_was_down_still_allows_one_look(
    registry: FakeRegistry,
) -> None:
    registry.train(alias="challenger", rmse=0.8)
    assert (await fired(trigger(deadline=1.0))).ending == "promoted"


@pytest.mark.parametrize("zone", [UTC, None])
async def test_the_triggerers_deadline_counts_where_none_is_given(registry: FakeRegistry, zone: Any) -> None:
    one = trigger(grace=30.0, poll_interval=60.0)
    one.timeout_after = (datetime.now(UTC) + timedelta(seconds=30.05)).replace(tzinfo=zone)
    async with asyncio.timeout(10):
        assert (await fired(one)).ending == "timeout"


async def test_an_outage_until_the_deadline_says_so(registry: FakeRegistry) -> None:
    registry.fault = down
    event = await fired(trigger(deadline=datetime.now(UTC).timestamp() + 5 * TICK))
    assert event.ending == "timeout"
    assert "MLflow did not answer at the end" in event.message
    assert event.verdict is None
