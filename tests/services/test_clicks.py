"""The whole of dag_specs/clicks: rows of PostgreSQL come out in table and pond exactly once, whatever dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from airflow_mlplatform.clients.kafka_admin import KafkaAdmin
from airflow_mlplatform.specs.etl import Etl
from airflow_mlplatform.specs.load import load_file
from airflow_mlplatform.specs.streaming import Connector, Streaming
from airflow_mlplatform.steps.login import Login
from airflow_mlplatform.steps.pipeline import Pipeline as EtlPipeline
from airflow_mlplatform.steps.topics import apply_topics
from tests.services.clicks_parts import Pipeline
from tests.services.connect_workers import ConnectWorkers
from tests.services.etl_parts import site
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.services.etl_parts import Site
    from tests.services.kafka_broker import KafkaBroker
    from tests.services.postgres_server import PostgresServer

__all__ = ["site"]

pytestmark = pytest.mark.long
SPEC = Path(__file__).parents[2] / "dag_specs" / "clicks" / "streaming.yaml"
TABLE = "create table orders (id serial primary key, customer_id bigint not null, amount_cents bigint not null)"
TRUTH = "select customer_id, count(*), sum(amount_cents) from orders group by 1 order by 1"
OFFSETS = "select count(*), count(distinct (kafka_partition, kafka_offset)) from input"
NEWEST = """\
select customer_id, orders, total_cents from input
qualify row_number() over (partition by customer_id order by kafka_offset desc) = 1 and orders > 0 order by 1
"""
RESULT = "select customer_id, orders, total_cents from customer_features where orders > 0 order by 1"


@pytest.fixture
def database(own_postgres: PostgresServer) -> PostgresServer:
    """The shop with some orders from before, every row told whole; and a place for the features."""
    with own_postgres.connect() as connection:
        connection.execute("create database features")
        connection.execute(TABLE)
        connection.execute("alter table orders replica identity full")
    insert(own_postgres, 500)
    return own_postgres


@pytest.fixture
def connect(own_kafka: KafkaBroker, tmp_path: Path) -> Iterator[ConnectWorkers]:
    settings = {"exactly.once.source.support": "enabled"}
    with ConnectWorkers(tmp_path / "connect", own_kafka.bootstrap, count=2, settings=settings) as workers:
        yield workers


@pytest.fixture
def spec() -> Streaming:
    (document,) = load_file(SPEC, SPEC.parent)
    assert isinstance(document.spec, Streaming)
    return document.spec


def insert(database: PostgresServer, count: int) -> None:
    values = "select i %% 37, i %% 91 from generate_series(1, %s) i"
    with database.connect() as connection:
        connection.execute(f"insert into orders (customer_id, amount_cents) {values}", (count,))


def rows(database: PostgresServer, query: str, name: str = "postgres") -> list[Any]:
    import psycopg

    with database.connect() as shop:
        if name == "postgres":
            return [tuple(map(int, row)) for row in shop.execute(query).fetchall()]
        with psycopg.connect(shop.info.dsn, dbname=name, password=shop.info.password) as connection:
            return [tuple(map(int, row)) for row in connection.execute(query).fetchall()]


def ours(connector: Connector, database: PostgresServer, **changes: str) -> dict[str, str]:
    """The connector's config with the addresses of this test."""
    login = database.login
    config = {
        key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in connector.config.items()
    }
    return config | changes | {key: str(login.port) for key in config if key == "database.port"}


def start(connect: ConnectWorkers, connector: Connector, config: dict[str, str]) -> None:
    url = f"{connect.urls[0]}/connectors/{connector.name}"
    wait_for(lambda: httpx.put(f"{url}/config", json=config, timeout=60).status_code in (200, 201))

    def running() -> bool:
        status = httpx.get(f"{url}/status", timeout=30).json()
        states = [status.get("connector", {}).get("state"), *(task["state"] for task in status.get("tasks", ()))]
        assert "FAILED" not in states, status
        return len(states) > 1 and set(states) == {"RUNNING"}

    wait_for(running, f"until {connector.name} runs", 90)


@pytest.mark.timeout(600)
def test_each_order_is_in_the_features_once(
    spec: Streaming,
    own_kafka: KafkaBroker,
    connect: ConnectWorkers,
    database: PostgresServer,
    site: Site,
    tmp_path: Path,
) -> None:
    apply_topics(KafkaAdmin({"bootstrap.servers": own_kafka.bootstrap}), spec.topics)
    (source,), (sink,) = spec.sources, spec.sinks
    login = database.login
    shop = {"database.hostname": login.host, "database.dbname": "postgres"}
    shop |= {"database.user": login.user, "database.password": login.password}
    start(connect, source, ours(source, database, **shop))
    features = {"connection.url": f"jdbc:postgresql://{login.host}:{login.port}/features"}
    features |= {"connection.username": login.user, "connection.password": login.password}
    start(connect, sink, ours(sink, database, **features))
    with ExitStack() as stack:
        assert spec.app
        pipeline = Pipeline(own_kafka.bootstrap, "clicks", tmp_path, topics=(spec.topics[0].name, spec.topics[1].name))
        stack.callback(pipeline.stop)
        for number in range(spec.app.replicas):
            pipeline.start()
            pipeline.wait_until_ready(number)
        insert(database, 3000)
        connect.workers[1].kill()
        insert(database, 3000)
        pipeline.apps[0].kill()
        insert(database, 3000)
        connect.workers[1].start()
        own_kafka.kill()
        insert(database, 1000)
        own_kafka.start()
        with database.connect() as connection:
            connection.execute("update orders set amount_cents = amount_cents + 1 where id % 10 = 0")
            connection.execute("delete from orders where id % 11 = 0")
        load(site, own_kafka, "run-1")
        pipeline.start()
        wait_for(lambda: done(database), "until the features are those of the orders", 180)
        load(site, own_kafka, "run-2")
        ((loaded, different),) = site.rows("pond://clicks/features", OFFSETS)
        assert loaded == different > len(pipeline.result()[0])
        assert site.rows("pond://clicks/features", NEWEST) == rows(database, TRUTH)


def load(site: Site, broker: KafkaBroker, run: str) -> None:
    """Load what is new into the pond, as a run of etl.yaml does."""
    (document,) = load_file(SPEC.with_name("etl.yaml"), SPEC.parent)
    assert isinstance(document.spec, Etl)
    etl = document.spec
    site.logins["kafka_default"] = Login("kafka_default", "kafka", extra={"bootstrap.servers": broker.bootstrap})
    place = etl.load.model_copy(update={"uri": etl.load.uri.replace("{{ run_id }}", run)})
    with site.bench(run) as bench:
        working = replace(bench, progress=etl.load.fixed_uri)
        EtlPipeline(etl.sources, etl.transform, etl.checks, place).run(working)


def done(database: PostgresServer) -> bool:
    import psycopg

    try:
        return rows(database, RESULT, "features") == rows(database, TRUTH)
    except psycopg.errors.UndefinedTable:
        return False
