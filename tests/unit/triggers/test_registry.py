from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse
from airflow.triggers.shared_stream import AdvanceItem, AdvanceOutcome, SharedStreamManager

from airflow_mlplatform.assets import registry_asset
from airflow_mlplatform.triggers.registry import CURSOR, Look, RegistryAliasTrigger, RegistryStream
from tests.unit.promotion.fake_registry import FakeRegistry, down, unauthorised

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TICK = 0.01


class Store:
    """The state store of one asset, as the triggerer hands it to a trigger."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = json.loads(json.dumps(value))


class SharedByTwo(Store):
    def get(self, key: str) -> Any:
        raise ValueError("Task has 2 concrete inlets and outlets")


class Triggerer:
    """Drives a watcher as Airflow's does: events are stored after a while, and then acknowledged."""

    def __init__(self, store: Store) -> None:
        _, kwargs = RegistryAliasTrigger("wine", "challenger", poll_interval=TICK).serialize()
        self.trigger = RegistryAliasTrigger(**json.loads(json.dumps(kwargs)))
        self.trigger.asset_state_store = store  # type: ignore[assignment]
        self.producer = RegistryAliasTrigger.create_shared_stream_producer(kwargs)
        self.events: list[dict[str, Any]] = []
        self.looks: list[Look] = []
        self.stores_events = True

    async def _stream(self) -> AsyncIterator[Look]:
        async for look, payload in self.producer.open_stream():
            self.looks.append(look)
            yield look
            outcome = AdvanceOutcome(acked=1, failed=0) if self.stores_events else AdvanceOutcome(acked=0, failed=1)
            await self.producer.advance([AdvanceItem(payload, outcome)])

    async def _run(self) -> None:
        async for event in self.trigger.filter_shared_stream(self._stream()):
            self.events.append(event.payload)

    async def until(self, condition: Callable[[], object]) -> None:
        """Run until something has come true, and then two looks more."""
        task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(10):
                await self._ticks(task, condition)
                enough = len(self.looks) + 2
                await self._ticks(task, lambda: len(self.looks) >= enough)
        finally:
            task.cancel()

    async def _ticks(self, task: asyncio.Task[None], condition: Callable[[], object]) -> None:
        while not condition():
            assert not task.done(), task.exception()
            await asyncio.sleep(TICK)


async def test_the_first_look_announces_who_bears_the_alias_already(registry: FakeRegistry) -> None:
    registry.train(alias="challenger")
    triggerer = Triggerer(Store())
    await triggerer.until(lambda: triggerer.events)
    assert triggerer.events == [
        {"model": "wine", "alias": "challenger", "version": 1, "run_id": "wine-1", "former": None}
    ]


async def test_nothing_is_announced_until_there_is_an_alias(registry: FakeRegistry) -> None:
    triggerer = Triggerer(Store())
    await triggerer.until(lambda: len(triggerer.looks) > 3)
    assert triggerer.events == []


async def test_a_move_is_announced_once_with_the_former_version(registry: FakeRegistry) -> None:
    registry.train(alias="challenger")
    triggerer = Triggerer(store := Store())
    await triggerer.until(lambda: triggerer.events)
    registry.train(alias="challenger")
    again = Triggerer(store)
    await again.until(lambda: again.events)
    assert [(event["version"], event["former"]) for event in again.events] == [(2, 1)]


async def test_a_restart_announces_nothing_twice_and_misses_nothing(registry: FakeRegistry) -> None:
    registry.train(alias="challenger")
    store = Store()
    for changes, expected in ((0, [1]), (0, []), (1, [2]), (0, []), (3, [5])):
        for _ in range(changes):
            registry.train(alias="challenger")
        triggerer = Triggerer(store)
        await triggerer.until(lambda found=triggerer: len(found.looks) > 3)  # type: ignore[misc]
        assert [event["version"] for event in triggerer.events] == expected


async def test_what_airflow_has_not_stored_is_announced_again(registry: FakeRegistry) -> None:
    registry.train(alias="challenger")
    store = Store()
    dying = Triggerer(store)
    dying.stores_events = False
    await dying.until(lambda: dying.events)
    assert len(dying.events) == 1
    assert CURSOR not in store.values
    heir = Triggerer(store)
    await heir.until(lambda: heir.events)
    assert heir.events == dying.events


async def test_an_alias_taken_away_and_set_again_is_a_change(registry: FakeRegistry) -> None:
    registry.train(alias="challenger")
    store = Store()
    for alias_there, expected in ((True, [1]), (False, []), (True, [1])):
        registry.models["wine"]["aliases"] = {"challenger": 1} if alias_there else {}
        triggerer = Triggerer(store)
        await triggerer.until(lambda found=triggerer: len(found.looks) > 3)  # type: ignore[misc]
        assert [event["version"] for event in triggerer.events] == expected


async def test_what_has_moved_away_and_back_between_two_looks_is_no_change(registry: FakeRegistry) -> None:
    registry.train(alias="challenger")
    triggerer = Triggerer(store := Store())
    await triggerer.until(lambda: triggerer.events)
    registry.train(alias="challenger")
    registry.models["wine"]["aliases"] = {"challenger": 1}
    again = Triggerer(store)
    await again.until(lambda: len(again.looks) > 3)
    assert again.events == []


async def test_a_model_made_anew_is_a_change_though_its_version_is_the_same(registry: FakeRegistry) -> None:
    registry.train(alias="challenger")
    triggerer = Triggerer(store := Store())
    await triggerer.until(lambda: triggerer.events)
    registry.models["wine"]["created"] += 1
    registry.models["wine"]["versions"][1]["run_id"] = "another"
    again = Triggerer(store)
    await again.until(lambda: again.events)
    assert again.events[0]["run_id"] == "another"


@pytest.mark.parametrize("fault", [down, unauthorised])
async def test_outages_and_refusals_are_borne_and_told_once(
    registry: FakeRegistry, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    registry.train(alias="challenger")
    tries = 0

    def broken(request: Any) -> Any:
        nonlocal tries
        tries += 1
        return fault(request) if tries < 4 else None

    registry.fault = broken
    triggerer = Triggerer(Store())
    await triggerer.until(lambda: triggerer.events)
    assert len(triggerer.events) == 1
    assert len([record for record in caplog.records if "Trying again" in record.getMessage()]) == 1


async def test_a_connection_that_is_missing_is_waited_for(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.train(alias="challenger")
    stream = RegistryStream("later", TICK).open_stream()
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(5 * TICK)
    assert not first.done()
    monkeypatch.setenv("AIRFLOW_CONN_LATER", '{"conn_type": "mlflow", "host": "http://mlflow.test"}')
    look, _ = await asyncio.wait_for(first, 10)
    assert look.bearer("wine", "challenger")["version"] == 1


async def test_two_assets_with_one_watcher_still_fire_and_a_warning_says_what_is_lost(
    registry: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.train(alias="challenger")
    triggerer = Triggerer(SharedByTwo())
    await triggerer.until(lambda: triggerer.events)
    assert len(triggerer.events) == 1
    assert "registry_asset" in caplog.text


async def test_run_does_the_same_without_a_shared_stream(registry: FakeRegistry) -> None:
    registry.train(alias="challenger")
    trigger = RegistryAliasTrigger("wine", "challenger", poll_interval=TICK)
    store = Store()
    trigger.asset_state_store = store  # type: ignore[assignment]
    events = trigger.run()
    assert (await anext(events)).payload["version"] == 1
    assert CURSOR not in store.values
    registry.train(alias="challenger")
    assert (await asyncio.wait_for(anext(events), 10)).payload["version"] == 2
    assert store.values[CURSOR]["version"] == 1


def test_all_aliases_of_a_server_share_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    one, named = RegistryAliasTrigger("wine", "challenger"), RegistryAliasTrigger("beer", "x", "mlflow_default")
    assert one.shared_stream_key() == named.shared_stream_key()
    assert one.shared_stream_key() != RegistryAliasTrigger("wine", "challenger", "other").shared_stream_key()
    assert one.shared_stream_key() != RegistryAliasTrigger("wine", "challenger", poll_interval=60).shared_stream_key()
    assert one.serialize() == RegistryAliasTrigger(alias="challenger", model="wine").serialize()
    assert one.hash(*one.serialize()) == one.hash(*RegistryAliasTrigger("wine", "challenger").serialize())


def test_the_asset_of_an_alias_is_always_the_same_and_reads_no_connection() -> None:
    asset, twin = registry_asset("red wine", "challenger"), registry_asset("red wine", "challenger")
    assert (asset.name, asset.uri) == (twin.name, twin.uri)
    assert asset.uri == "mlflow://registry/red%20wine@challenger"
    assert registry_asset("wine", "a").name != registry_asset("wine", "b").name
    assert registry_asset("wine", "a", "other").name != registry_asset("wine", "a").name


async def test_a_hundred_watchers_are_one_request_a_poll(registry: FakeRegistry) -> None:
    for number in range(100):
        registry.train(f"model-{number}", alias="challenger")
    fired: list[str] = []
    triggers = [RegistryAliasTrigger(f"model-{number}", "challenger", poll_interval=TICK) for number in range(100)]
    assert len({trigger.shared_stream_key() for trigger in triggers}) == 1
    manager = SharedStreamManager()

    async def watch(number: int, trigger: RegistryAliasTrigger) -> None:
        trigger.asset_state_store = Store()  # type: ignore[assignment]
        key = trigger.shared_stream_key()
        stream = manager.subscribe(trigger_id=number, trigger=trigger, key=key)
        async for event in trigger.filter_shared_stream(stream):
            if (seq := manager.bind_pending_event(trigger_id=number, key=key)) is not None:
                manager.confirm_persisted([seq])
            fired.append(event.payload["model"])

    tasks = [asyncio.create_task(watch(number, trigger)) for number, trigger in enumerate(triggers)]
    try:
        await until(lambda: len(fired) == 100 and all(trigger.asset_state_store.values for trigger in triggers))
        registry.requests.clear()
        registry.train("model-7", alias="challenger")
        await until(lambda: len(registry.requests) > 10 and len(fired) == 101)
        asked = [call for call, _ in registry.requests]
        assert asked.count("GET model-versions/get") == 1
        assert set(asked) == {"GET registered-models/search", "GET model-versions/get"}
        assert fired[-1] == "model-7"
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await manager.stop_all()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - many things are waited for
            await asyncio.sleep(TICK)


async def test_a_model_pushed_out_of_a_page_is_not_announced_again(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_mlplatform.triggers.registry.LARGEST_PAGE", 2)
    registry.page = 2
    for name in ("a", "b", "wine"):
        registry.train(name, alias="challenger")
    triggerer = Triggerer(Store())
    await triggerer.until(lambda: triggerer.events)
    hidden = registry.models["wine"]
    again = Triggerer(triggerer.trigger.asset_state_store)  # type: ignore[arg-type]
    looks = 0

    def fault(request: Any) -> None:
        nonlocal looks
        if request.url.path.endswith("search") and "page_token" not in request.url.params:
            looks += 1
            registry.models.pop("wine", None)
            if looks != 3:
                registry.models["wine"] = hidden

    registry.fault = fault
    await again.until(lambda: looks > 5)
    assert again.events == []


async def test_an_error_of_airflows_store_ends_no_watch(registry: FakeRegistry) -> None:
    registry.train(alias="challenger")
    store = Flaky()
    triggerer = Triggerer(store)
    await triggerer.until(lambda: store.values)
    assert len(triggerer.events) == 1
    assert store.values[CURSOR]["version"] == 1


class Flaky(Store):
    """A store whose first read and first write fail, as while Airflow's API server restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = ["get", "set"]

    def _fail(self, what: str) -> None:
        if what in self.failures:
            self.failures.remove(what)
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR))

    def get(self, key: str) -> Any:
        self._fail("get")
        return super().get(key)

    def set(self, key: str, value: Any) -> None:
        self._fail("set")
        super().set(key, value)


async def test_what_an_older_release_noted_is_understood(registry: FakeRegistry) -> None:
    registry.train(alias="challenger")
    store = Store()
    store.values[CURSOR] = {"version": 1, "run_id": "wine-1"}
    triggerer = Triggerer(store)
    await triggerer.until(lambda: len(triggerer.looks) > 3)
    assert triggerer.events == []
