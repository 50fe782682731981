"""What a task that starts in the triggerer can render, and what it leaves to a worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_mlplatform.triggers import starting
from airflow_mlplatform.triggers.starting import NeedsWorker, StartingTrigger, needs_a_worker, templated

LOADED = datetime(2026, 1, 2, tzinfo=UTC)


class Trigger(StartingTrigger):
    def __init__(self, uri: str, origin: dict[str, Any] | None = None) -> None:
        super().__init__(origin)
        self.uri = uri
        self.template_fields = ("uri",)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "", {}

    async def run(self) -> Any:
        yield


def context(inlets: list[Any] | None = None, run_after: datetime = LOADED) -> Any:
    task_instance = SimpleNamespace(
        dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1, log_url="http://airflow.test/t"
    )
    return {
        "ti": task_instance,
        "params": {"rows": 7},
        "inlets": inlets or [],
        "dag_run": SimpleNamespace(run_after=run_after),
    }


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    known: dict[str, Any] = {"s3://pond/wine": {"uri": "s3://pond/wine/2026-01-01.parquet", "schema_hash": "abc"}}

    async def published(asset: Any, before: datetime) -> Any:
        return known.get(asset.uri) if before >= LOADED else None

    monkeypatch.setattr(starting, "published", published)
    return known


async def prepared(trigger: Trigger, found: Any) -> Any:
    trigger.render_template_fields(found)
    return await trigger.prepare()


async def test_templates_are_rendered(loads: dict[str, Any]) -> None:
    trigger = Trigger("{{ params.rows }} rows")
    origin = await prepared(trigger, context())
    assert trigger.uri == "7 rows"
    assert (origin.dag_id, origin.task_id, origin.try_number) == ("d", "t", 1)


WINE = SimpleNamespace(name="s3://pond/wine", uri="s3://pond/wine")


async def test_the_data_is_where_the_load_said(loads: dict[str, Any]) -> None:
    trigger = Trigger("{{ asset_uri('s3://pond/wine') }}")
    origin = await prepared(trigger, context([WINE]))
    assert trigger.uri == "s3://pond/wine/2026-01-01.parquet"
    assert origin.tags()["mlplatform.data.schema_hash"] == "abc"


async def test_data_that_nobody_noted_is_a_workers_business(loads: dict[str, Any]) -> None:
    loads.clear()
    with pytest.raises(NeedsWorker, match="s3://pond/wine"):
        await prepared(Trigger("x"), context([WINE]))


async def test_a_load_after_the_run_began_did_not_start_it(loads: dict[str, Any]) -> None:
    with pytest.raises(NeedsWorker):
        await prepared(Trigger("x"), context([WINE], run_after=LOADED - timedelta(hours=1)))


@pytest.mark.parametrize("template", ["{{ no_such_thing }}", "{{ my_macro() }}", "{{ params.rows.x.y }}", "{{ oops"])
async def test_what_the_triggerer_does_not_know_goes_to_a_worker(loads: dict[str, Any], template: str) -> None:
    with pytest.raises(NeedsWorker, match="template"):
        await prepared(Trigger(template), context())


async def test_what_a_worker_rendered_is_not_rendered_again(loads: dict[str, Any]) -> None:
    first = Trigger("x")
    origin = await prepared(first, context())
    second = Trigger("{{ params.rows }}", origin.to_json())
    assert await prepared(second, context()) == origin
    assert second.uri == "{{ params.rows }}"


def test_what_holds_templates() -> None:
    assert templated({"a": ["{{ ds }}"]})
    assert not templated({"a": ["ds"], "b": 1})
    assert needs_a_worker({"{{ ti.xcom_pull('a') }}": 1})
    assert not needs_a_worker(["{{ ds }}"])
