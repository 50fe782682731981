"""From a spec's ``schedule`` to what Airflow's ``DAG(schedule=…)`` takes."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, AssetAll, AssetAny

from airflow_mlplatform.assets import registry_asset
from airflow_mlplatform.specs.base import DURATION_PATTERN, parse_duration
from airflow_mlplatform.specs.common import AllAssets, AnyAsset, RegistryChange, Schedule

__all__ = ["airflow_schedule", "scheduled_assets"]


def airflow_schedule(schedule: Schedule | None) -> Any:
    """Return the argument ``schedule`` of a DAG: text, timedelta, asset expression or ``None``."""
    if isinstance(schedule, AllAssets):
        return AssetAll(*(Asset(uri) for uri in schedule.assets))
    if isinstance(schedule, AnyAsset):
        return AssetAny(*(Asset(uri) for uri in schedule.any))
    if isinstance(schedule, RegistryChange):
        return [registry_asset(schedule.model, schedule.alias)]
    return _duration(schedule) or schedule


def scheduled_assets(schedule: Schedule | None) -> tuple[str, ...]:
    """Return the URIs of the data assets that start the DAG."""
    if isinstance(schedule, AllAssets):
        return schedule.assets
    return schedule.any if isinstance(schedule, AnyAsset) else ()


def _duration(text: str | None) -> timedelta | None:
    return parse_duration(text) if text and re.match(DURATION_PATTERN, text) else None
