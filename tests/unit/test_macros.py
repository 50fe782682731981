"""`asset_uri` in templates."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset
from jinja2 import Environment

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.macros import MACROS
from airflow_mlplatform.settings import settings


def render(template: str, **context: Any) -> str:
    return Environment(autoescape=False).from_string(template).render(context | MACROS)


def triggered(uri: str, extra: dict[str, Any] | None) -> dict[str, Any]:
    event = SimpleNamespace(timestamp=datetime(2026, 1, 1, tzinfo=UTC), extra=extra)
    return {Asset(uri): [event]}


def test_the_event_tells() -> None:
    events = triggered("pond://wine", {"uri": "s3://pond/wine/2026-01-01.parquet"})
    assert (
        render("{{ asset_uri('pond://wine') }}", triggering_asset_events=events) == "s3://pond/wine/2026-01-01.parquet"
    )


@pytest.mark.parametrize("extra", [None, {}, {"uri": None}])
def test_an_event_that_says_nothing_means_the_asset_itself(extra: dict[str, Any] | None) -> None:
    found = render("{{ asset_uri('pond://wine') }}", triggering_asset_events=triggered("pond://wine", extra))
    assert found == f"{settings().pond}/wine"


def test_no_event_means_the_asset_itself() -> None:
    assert render("{{ asset_uri('s3://bucket/wine') }}") == "s3://bucket/wine"


def test_the_event_of_another_asset_tells_nothing() -> None:
    events = triggered("pond://orders", {"uri": "s3://pond/orders/1"})
    assert render("{{ asset_uri('pond://wine') }}", triggering_asset_events=events) == f"{settings().pond}/wine"


def test_nothing_leads_out_of_the_pond() -> None:
    with pytest.raises(ConfigurationError, match="leads out"):
        render("{{ asset_uri('pond://../secrets') }}")
