"""From a spec's ``schedule`` to what Airflow's ``DAG(schedule=…)`` takes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, pairwise
from typing import Any

from airflow.sdk import Asset, AssetAll, AssetAny
from croniter import croniter

from airflow_mlplatform.assets import registry_asset
from airflow_mlplatform.specs.base import DURATION_PATTERN, parse_duration
from airflow_mlplatform.specs.common import AllAssets, AnyAsset, RegistryChange, Schedule

__all__ = ["airflow_schedule", "longest_pause", "scheduled_assets"]

# Presets that are no rhythm, and one that Airflow knows and croniter does not.
WITHOUT_PAUSE = ("@once", "@continuous")
QUARTERLY = "0 0 1 */3 *"
SOME_DAY = datetime(2025, 1, 1, tzinfo=UTC)
# Enough to meet the weekend of a schedule of working days.
LOOKED_AT = 12


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


def longest_pause(schedule: Schedule | None) -> timedelta | None:
    """Return the longest time between two runs that start by the clock; ``None`` for a spec that does not."""
    if not isinstance(schedule, str) or schedule in WITHOUT_PAUSE:
        return None
    return _duration(schedule) or _longest_of(QUARTERLY if schedule == "@quarterly" else schedule)


@cache
def _longest_of(cron: str) -> timedelta:
    times: list[datetime] = list(islice(croniter(cron, SOME_DAY).all_next(datetime), LOOKED_AT))
    return max(later - earlier for earlier, later in pairwise(times))


def _duration(text: str | None) -> timedelta | None:
    return parse_duration(text) if text and re.match(DURATION_PATTERN, text) else None
