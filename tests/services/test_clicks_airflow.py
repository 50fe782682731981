"""dag_specs/clicks in a whole Airflow, all but its app, which takes Kubernetes: made, kept, taken down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.services.airflow_home import AirflowHome, airflow_home, migrated_database
from tests.services.clicks_parts import Pipeline
from tests.services.connect_workers import ConnectWorkers
from tests.waiting import wait_for

if TYPE_CHECKING:
    import psycopg

    from tests.services.kafka_broker import KafkaBroker
    from tests.services.postgres_server import PostgresServer

__all__ = ["airflow_home", "migrated_database"]

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SPEC = ROOT / "dag_specs" / "clicks" / "streaming.yaml"
PASSWORD = "the password of both"
# What docs/streaming.md tells the owner of the database to do, with the rights of the two users.
SETUP = (
    "create database shop",
    "create database features",
    f"create role debezium login replication password '{PASSWORD}'",
    f"create role features login password '{PASSWORD}'",
    "grant create on database shop to debezium",
    "alter database features owner to features",
)
ORDERS = (
    "create table orders (id serial primary key, customer_id bigint not null, amount_cents bigint not null)",
    "alter table orders replica identity full",
    "alter table orders owner to debezium",
)
INSERT = "insert into orders (customer_id, amount_cents) select i % 7, i from generate_series(1, 70) i"
TRUTH = "select customer_id, count(*), sum(amount_cents)::bigint from orders group by 1 order by 1"
RESULT = "select customer_id, orders, total_cents from customer_features order by 1"


def connect_to(server: PostgresServer, name: str) -> psycopg.Connection[Any]:
    import psycopg

    login = server.login
    return psycopg.connect(
        host=login.host, port=login.port, user=login.user, password=login.password, dbname=name, autocommit=True
    )


@pytest.fixture
def database(own_postgres: PostgresServer) -> PostgresServer:
    """A server with the shop and a place for the features, and the users that the spec names."""
    for name, statements in (("postgres", SETUP), ("shop", (*ORDERS, INSERT))):
        with closing(connect_to(own_postgres, name)) as connection:
            for statement in statements:
                connection.execute(statement.encode())
    return own_postgres


@pytest.fixture
def connect(own_kafka: KafkaBroker, tmp_path: Path) -> Iterator[ConnectWorkers]:
    settings = {"exactly.once.source.support": "enabled"}
    with ConnectWorkers(tmp_path / "connect", own_kafka.bootstrap, count=1, settings=settings) as workers:
        for name in ("shop", "features"):
            (workers.folder / f"{name}.properties").write_text(f"password={PASSWORD}\n")
        yield workers


@dataclass
class Clicks:
    """The pipeline as its owner sees it."""

    home: AirflowHome
    connect: ConnectWorkers
    text: str

    def publish(self, state: str = "running") -> None:
        """Write the spec and wait until Airflow has it in that state."""
        text = self.text.replace("description: Features", f"state: {state}\ndescription: {state}, features")
        (self.home.dags / "clicks.yaml").write_text(text)

        def taken() -> bool:
            errors = self.home.import_errors()
            assert not errors, errors[0]
            found = self.home.get("/dags/clicks")
            return bool(found and found["description"].startswith(state))

        wait_for(taken, f"until Airflow has the spec as {state}", 90)

    def run(self) -> dict[str, Any]:
        """Run it to its end and return what each task left, in the order in which they began."""
        run = self.home.trigger("clicks")
        ended = self.home.wait_for_run("clicks", run, 180)
        tasks = sorted(self.home.tasks("clicks", run).values(), key=lambda task: str(task["start_date"]))
        assert ended == "success", [self.home.task_log("clicks", run, task["task_id"]) for task in tasks]
        for former, later in pairwise(tasks):
            assert former["end_date"] <= later["start_date"]
        return {task["task_id"]: self.home.xcom("clicks", run, task["task_id"]) for task in tasks}

    def connectors(self) -> list[str]:
        """Return the names of the connectors that there are."""
        return sorted(httpx.get(f"{self.connect.urls[0]}/connectors", timeout=30).json())


@pytest.fixture
def clicks(
    airflow_home: AirflowHome, own_kafka: KafkaBroker, connect: ConnectWorkers, database: PostgresServer
) -> Clicks:
    brokers = {"conn_type": "kafka", "extra": {"bootstrap.servers": own_kafka.bootstrap}}
    airflow_home.variables["AIRFLOW_CONN_KAFKA_DEFAULT"] = json.dumps(brokers)
    workers = {"conn_type": "kafka_connect", "host": ",".join(connect.urls)}
    airflow_home.variables["AIRFLOW_CONN_KAFKA_CONNECT_DEFAULT"] = json.dumps(workers)
    shutil.copy(ROOT / "dags" / "mlplatform.py", airflow_home.dags)
    text = SPEC.read_text("utf-8")
    app = text[text.index("\napp:") : text.index("\nsinks:")]
    port = database.login.port
    changes = {
        app: "",
        "shop-db:5432": f"127.0.0.1:{port}",
        "hostname: shop-db": "hostname: 127.0.0.1",
        "port: 5432": f"port: {port}",
        "/etc/connect": str(connect.folder),
        "retries: {count: 2, delay: 1m}": "retries: {count: 0}",
    }
    for former, ours in changes.items():
        assert former in text
        text = text.replace(former, ours)
    airflow_home.start()
    return Clicks(airflow_home, connect, text)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_it_is_made_kept_and_taken_down(
    clicks: Clicks, own_kafka: KafkaBroker, database: PostgresServer, tmp_path: Path
) -> None:
    clicks.publish()
    made = clicks.run()
    assert list(made) == ["topics", "sources.shop-orders", "sinks.features-table"]
    assert made["topics"] == {"shop.public.orders": "made", "clicks.features": "made"}
    for name in ("sources.shop-orders", "sinks.features-table"):
        assert (made[name]["done"], made[name]["state"], set(made[name]["tasks"])) == (
            "created",
            "RUNNING",
            {"RUNNING"},
        )

    pipeline = Pipeline(own_kafka.bootstrap, "clicks", tmp_path, topics=("shop.public.orders", "clicks.features"))
    pipeline.start()
    with closing(connect_to(database, "shop")) as shop:
        wait_for(
            lambda: features(database) == shop.execute(TRUTH).fetchall(), "until the features are in the table", 90
        )
    pipeline.stop()

    kept = clicks.run()
    assert set(kept["topics"].values()) == {"as wished"}
    assert [kept[name]["done"] for name in list(kept)[1:]] == ["nothing", "nothing"]

    clicks.publish("absent")
    gone = clicks.run()
    assert list(gone) == ["sinks.features-table", "sources.shop-orders", "topics"]
    assert [gone[name]["done"] for name in list(gone)[:2]] == ["removed", "removed"]
    assert gone["topics"] == {"deleted": [], "stay": ["clicks.features", "shop.public.orders"]}
    assert clicks.connectors() == []
    with closing(connect_to(database, "shop")) as shop:
        assert shop.execute("select slot_name from pg_replication_slots").fetchall() == [("clicks",)]


def features(database: PostgresServer) -> list[Any]:
    import psycopg

    with closing(connect_to(database, "features")) as connection:
        try:
            return [tuple(map(int, row)) for row in connection.execute(RESULT).fetchall()]
        except psycopg.errors.UndefinedTable:
            return []
