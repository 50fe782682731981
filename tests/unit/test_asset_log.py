"""What was published of an asset, noted where a triggerer can read it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse
from airflow.sdk.execution_time.context import AssetStateStoreAccessor

from airflow_mlplatform.asset_log import KEPT, note, published

WINE = Asset("s3://pond/wine")
LOG = logging.getLogger("task")


class Store:
    """Airflow's store of one asset."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()

    def get(self: AssetStateStoreAccessor, key: str, default: Any = None) -> Any:
        return store.get(key, default)

    monkeypatch.setattr(AssetStateStoreAccessor, "get", get)
    return store


def load(store: Store, run: str, uri: str) -> None:
    context: Any = {"asset_state_store": {WINE: store}, "run_id": run}
    note(context, WINE, {"uri": uri}, LOG)


async def test_the_newest_load_before_a_moment(store: Store) -> None:
    load(store, "one", "a")
    between = datetime.now(UTC)
    load(store, "two", "b")
    assert await published(WINE, between) == {"uri": "a"}
    assert await published(WINE, datetime.now(UTC)) == {"uri": "b"}
    assert await published(WINE, between - timedelta(days=1)) is None


async def test_a_repeated_load_takes_its_own_place(store: Store) -> None:
    load(store, "one", "a")
    load(store, "one", "a again")
    assert await published(WINE, datetime.now(UTC)) == {"uri": "a again"}
    assert [len(entries) for entries in store.values.values()] == [1]


async def test_old_loads_are_forgotten(store: Store) -> None:
    for number in range(KEPT + 5):
        load(store, f"run-{number}", str(number))
    assert [len(entries) for entries in store.values.values()] == [KEPT]


def test_a_load_succeeds_though_airflow_keeps_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Store):
        def get(self, key: str, default: Any = None) -> Any:
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.GENERIC_ERROR))

    load(Broken(), "one", "a")
    assert "did not keep" in caplog.text


def test_outside_of_a_worker_there_is_no_store() -> None:
    note({}, WINE, {}, LOG)  # type: ignore[typeddict-item]
