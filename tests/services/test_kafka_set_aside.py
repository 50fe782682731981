"""Records that do not parse become visible with the load of their run, once, whatever happens to runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlplatform.exceptions import CheckFailed, ConfigurationError
from airflow_mlplatform.specs.etl import Load, Source
from airflow_mlplatform.steps.extract import extract
from airflow_mlplatform.steps.kafka.loading import loading
from airflow_mlplatform.steps.publish import publish
from tests.services.etl_parts import bucket, minio, s3_site, site
from tests.services.kafka_parts import Clicks

if TYPE_CHECKING:
    from tests.services.etl_parts import Site
    from tests.services.kafka_broker import KafkaBroker

__all__ = ["bucket", "minio", "s3_site", "site"]

NEVER = {"rows": {"max": 0}}


@pytest.fixture
def clicks(kafka: KafkaBroker, site: Site) -> Clicks:
    return broken(Clicks(kafka, site))


def broken(clicks: Clicks) -> Clicks:
    clicks.create(1)
    clicks.send([{"id": 0}, b"nope", {"id": 2}, b"no"])
    return clicks


def options(run: str, ending: str = "") -> dict[str, Any]:
    return {"columns": {"id": "BIGINT"}, "on_error": {"set_aside": f"pond://aside/{run}{ending}"}}


def aside(clicks: Clicks) -> list[int]:
    """Offsets of all that all runs have set aside."""
    sql = "select kafka_offset from input order by kafka_offset"
    return [offset for (offset,) in clicks.site.rows("pond://aside", sql)]


def test_nothing_is_set_aside_without_the_load(clicks: Clicks) -> None:
    with pytest.raises(CheckFailed):
        clicks.load("r1", checks=NEVER, **options("r1"))
    with pytest.raises(ConfigurationError, match="no file matches"):
        aside(clicks)
    assert clicks.load("r1", **options("r1")).rows == 2
    assert aside(clicks) == [1, 3]


def test_what_a_taken_over_run_would_have_set_aside_is_there_once(clicks: Clicks) -> None:
    with pytest.raises(CheckFailed):
        clicks.load("r1", checks=NEVER, **options("r1"))
    clicks.send([b"never"])
    assert clicks.load("r2", **options("r2")).rows == 2
    assert clicks.load("r1", **options("r1")).rows == 0
    assert aside(clicks) == [1, 3, 4]


def load_and_die(clicks: Clicks, ending: str) -> None:
    load = Load(uri=f"pond://clicks/r1{ending}")
    with clicks.bench("r1") as bench:
        table = extract(Source.model_validate(clicks.source(**options("r1", ending))), bench)
        with loading(load, bench) as marking:
            publish(load, table, marking)
            raise KeyboardInterrupt


@pytest.mark.parametrize("ending", ["", ".parquet"])
@pytest.mark.parametrize("place", ["site", "s3_site"])
def test_a_run_that_dies_behind_its_load(
    kafka: KafkaBroker, request: pytest.FixtureRequest, place: str, ending: str
) -> None:
    clicks = broken(Clicks(kafka, request.getfixturevalue(place)))
    with pytest.raises(KeyboardInterrupt):
        load_and_die(clicks, ending)
    assert clicks.load("r2", f"pond://clicks/r2{ending}", **options("r2", ending)).rows == 0
    assert aside(clicks) == [1, 3], "who comes next brings it to its end"
    assert clicks.loaded() == (2, 2)


def test_a_cleared_run_sets_aside_the_same_again(clicks: Clicks) -> None:
    clicks.load("r1", **options("r1"))
    clicks.send([b"never"])
    clicks.load("r2", **options("r2"))
    assert clicks.load("r1", **options("r1")).rows == 2
    assert aside(clicks) == [1, 3, 4]
    skipping = {"columns": {"id": "BIGINT", "text": "VARCHAR"}, "on_error": "skip"}
    assert clicks.load("r1", **skipping).rows == 2
    assert aside(clicks) == [1, 3, 4]


def test_what_another_run_has_set_aside_is_not_replaced(clicks: Clicks) -> None:
    clicks.load("r1", **options("day"))
    clicks.send([{"id": 4}])
    assert clicks.load("r2", **options("day")).rows == 1, "nothing to set aside"
    clicks.send([b"never"])
    with pytest.raises(ConfigurationError, match=r"day: holds what run dag/r1 has set aside.*run_id"):
        clicks.load("r3", **options("day"))
    assert aside(clicks) == [1, 3]
    assert clicks.load("r3", **options("r3")).rows == 0
    assert aside(clicks) == [1, 3, 5]
