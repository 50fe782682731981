from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_mlplatform.hooks.mlflow import MlflowHook
from tests.unit.promotion.fake_registry import FakeRegistry

if TYPE_CHECKING:
    from airflow_mlplatform.clients.mlflow import AsyncMlflowClient, MlflowClient


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    """A registry that every MlflowHook reaches."""
    fake = FakeRegistry()

    async def async_client(hook: MlflowHook) -> AsyncMlflowClient:
        assert hook.connection
        return fake.async_client()

    def client(hook: MlflowHook) -> MlflowClient:
        assert hook.connection
        return fake.client()

    monkeypatch.setattr(MlflowHook, "async_client", async_client)
    monkeypatch.setattr(MlflowHook, "client", client)
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", '{"conn_type": "mlflow", "host": "http://mlflow.test"}')
    return fake
