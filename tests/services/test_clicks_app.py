"""The example application counts each event exactly once, whatever is killed meanwhile."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.services.clicks_parts import Pipeline, change, order
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.services.kafka_broker import KafkaBroker

CUSTOMERS = 20


@pytest.fixture
def pipeline(kafka: KafkaBroker, tmp_path: Path) -> Iterator[Pipeline]:
    pipeline = Pipeline(kafka.bootstrap, f"clicks-{uuid4().hex[:6]}", tmp_path)
    try:
        yield pipeline
    finally:
        pipeline.stop()


def inserts(first: int, count: int) -> list[dict[str, object]]:
    return [change("c", None, order(number, number % CUSTOMERS)) for number in range(first, first + count)]


def counted(pipeline: Pipeline) -> int:
    return sum(row["orders"] for row in pipeline.result()[0].values())


def wait_until_counted(pipeline: Pipeline, count: int) -> None:
    wait_for(lambda: counted(pipeline) >= count, f"until {count} orders are counted", 90)
    rows, _ = pipeline.result()
    assert sum(row["orders"] for row in rows.values()) == count
    assert all(row["total_cents"] == row["orders"] * 100 for row in rows.values())


def test_it_counts_what_happens_to_orders_and_ends_in_peace(pipeline: Pipeline) -> None:
    pipeline.make_topics()
    app = pipeline.start()
    pipeline.wait_until_ready(0)
    first, second = order(1, 7, 250), order(2, 7, 1000)
    pipeline.send([change("r", None, first), change("c", None, second)])
    wait_until = {"customer_id": 7, "orders": 2, "total_cents": 1250, "average_cents": 625, "changed_at": 1}
    wait_for(lambda: pipeline.result()[0].get(7) == wait_until)
    pipeline.send([change("u", second, {**second, "amount_cents": 500}, at=5), change("d", first, None, at=6)])
    wait_for(lambda: pipeline.result()[0][7]["changed_at"] == 6)
    assert pipeline.result()[0][7] == {
        **wait_until,
        "orders": 1,
        "total_cents": 500,
        "average_cents": 500,
        "changed_at": 6,
    }
    assert pipeline.get(0, "/healthz")[0] == 200
    assert "clicks_events_total 4.0" in pipeline.get(0, "/metrics")[1]
    app.send_signal(signal.SIGTERM)
    assert app.wait(20) == 0
    assert "asked to stop" in pipeline.log(0).read_text()


def test_two_share_the_work_and_a_killed_one_loses_and_repeats_nothing(pipeline: Pipeline) -> None:
    pipeline.make_topics()
    first = pipeline.start()
    pipeline.wait_until_ready(0)
    pipeline.send(inserts(0, 2000))
    second = pipeline.start()
    pipeline.send(inserts(2000, 2000))
    pipeline.wait_until_ready(1)
    pipeline.send(inserts(4000, 2000))
    second.kill()
    pipeline.send(inserts(6000, 2000))
    pipeline.start()
    wait_until_counted(pipeline, 8000)
    assert first.poll() is None


def test_topics_that_do_not_fit_are_told(pipeline: Pipeline) -> None:
    pipeline.make_topics(features=1)
    assert pipeline.start().wait(30) == 1
    assert "has 3 partitions and" in pipeline.log(0).read_text()


@pytest.mark.long
def test_the_broker_may_be_killed(own_kafka: KafkaBroker, tmp_path: Path) -> None:
    pipeline = Pipeline(own_kafka.bootstrap, "clicks", tmp_path)
    try:
        pipeline.make_topics()
        for number in range(2):
            pipeline.start()
            pipeline.wait_until_ready(number)
        pipeline.send(inserts(0, 5000))
        own_kafka.kill()
        own_kafka.start()
        pipeline.send(inserts(5000, 5000))
        wait_until_counted(pipeline, 10_000)
        assert [app.poll() for app in pipeline.apps] == [None, None]
    finally:
        pipeline.stop()


def test_the_messages_of_a_customer_are_few(pipeline: Pipeline) -> None:
    pipeline.make_topics()
    pipeline.send(inserts(0, 3000))
    pipeline.start()
    wait_until_counted(pipeline, 3000)
    _, messages = pipeline.result()
    assert isinstance(messages, Counter)
    assert messages.total() < 3000
