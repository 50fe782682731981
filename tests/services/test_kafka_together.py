"""Runs of one pipeline that meet although they should not: each record is in the pond once all the same."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable
from airflow_mlplatform.specs.etl import Load, Source
from airflow_mlplatform.steps.extract import extract
from airflow_mlplatform.steps.kafka.loading import loading
from airflow_mlplatform.steps.publish import held, publish
from tests.services.etl_parts import bucket, minio, s3_site, site
from tests.services.kafka_parts import Clicks

if TYPE_CHECKING:
    from tests.services.etl_parts import Site
    from tests.services.kafka_broker import KafkaBroker

__all__ = ["bucket", "minio", "s3_site", "site"]

ID = {"columns": {"id": "BIGINT"}}
RUNS, TRIES = 4, 5


def numbers(start: int, stop: int) -> list[dict[str, int]]:
    return [{"id": number} for number in range(start, stop)]


@pytest.fixture
def clicks(kafka: KafkaBroker, site: Site) -> Clicks:
    clicks = Clicks(kafka, site)
    clicks.create(1)
    clicks.send(numbers(0, 10))
    return clicks


def test_what_is_being_published_cannot_be_taken_over(clicks: Clicks) -> None:
    load = Load(uri="pond://clicks/r1")
    with clicks.bench("r1") as bench:
        table = extract(Source.model_validate(clicks.source(**ID)), bench)
        with loading(load, bench) as marking:
            with pytest.raises(ServiceUnavailable, match="another run of dag is publishing.*max_active_runs=1"):
                clicks.load("r2", **ID)
            publish(load, table, marking)
    assert clicks.load("r2", **ID).rows == 0
    assert clicks.loaded() == (10, 10)


def test_what_was_taken_over_before_it_was_published(clicks: Clicks) -> None:
    load = Load(uri="pond://clicks/r1")
    with clicks.bench("r1") as bench:
        table = extract(Source.model_validate(clicks.source(**ID)), bench)
        assert clicks.load("r2", **ID).rows == 10
        with pytest.raises(ConfigurationError, match="taken over by run r2.*clear"), loading(load, bench) as marking:
            publish(load, table, marking)
    assert clicks.loaded() == (10, 10)
    assert clicks.load("r1", **ID).rows == 0


@pytest.mark.parametrize("ending", ["", ".parquet"])
def test_what_was_taken_over_while_it_was_published_on_s3(kafka: KafkaBroker, s3_site: Site, ending: str) -> None:
    clicks = Clicks(kafka, s3_site)
    clicks.create(1)
    clicks.send(numbers(0, 10))
    load = Load(uri=f"pond://clicks/r1{ending}")
    with clicks.bench("r1") as bench:
        table = extract(Source.model_validate(clicks.source(**ID)), bench)

        def overtaken() -> None:
            with loading(load, bench) as marking:
                assert clicks.load("r2", f"pond://clicks/r2{ending}", **ID).rows == 10
                publish(load, table, marking)

        with pytest.raises(ConfigurationError, match="taken over by run r2"):
            overtaken()
        assert held(load, bench) is None
    assert clicks.loaded() == (10, 10)
    assert clicks.load("r1", f"pond://clicks/r1{ending}", **ID).rows == 0


def test_many_runs_at_once(clicks: Clicks) -> None:
    """As if there were no ``max_active_runs``: most fail, some are retried, and nothing is there twice or missing."""
    wrong: list[Exception] = []

    def load(name: str) -> None:
        for _ in range(TRIES):
            try:
                clicks.load(name, **ID)
                return
            except (ServiceUnavailable, ConfigurationError) as error:
                if "another run of dag is publishing" not in str(error) and "taken over by run" not in str(error):
                    wrong.append(error)

    def run(name: str) -> None:
        for part in range(2):
            clicks.send(numbers(10, 20))
            load(f"{name}-{part}")

    threads = [threading.Thread(target=run, args=(f"r{number}",)) for number in range(RUNS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    clicks.load("last", **ID)
    assert clicks.loaded() == (10 + RUNS * 20, 10 + RUNS * 20)
