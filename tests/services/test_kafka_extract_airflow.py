"""A topic as a source in a whole Airflow: tasks apart and in one, run after run, and a run that is cleared."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.services.airflow_home import AirflowHome, airflow_home, migrated_database
from tests.services.etl_parts import Site
from tests.services.kafka_parts import Clicks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.kafka_broker import KafkaBroker

__all__ = ["airflow_home", "migrated_database"]

pytestmark = [pytest.mark.slow, pytest.mark.long]

SPEC = """\
apiVersion: mlplatform/v1
kind: etl
name: {stages}
retries: {{count: 0}}
stages: {stages}
extract:
  kafka:
    connection: events
    topic: {topic}
    columns: {{id: BIGINT}}
    on_error: {{set_aside: "pond://{stages}-bad/{{{{ run_id }}}}"}}
transform:
  - sql: select kafka_partition, kafka_offset, id, id * 2 as twice from input
checks: {{not_null: [id]}}
load: {{uri: "pond://{stages}/{{{{ run_id }}}}"}}
"""
DAG = """\
# airflow dag
from airflow_mlplatform.factory.build import dag_of

dag = dag_of({path!r}, root={root!r})
"""
STAGES = ["separate", "fused"]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, {})


@pytest.fixture
def topics(kafka: KafkaBroker, site: Site) -> dict[str, Clicks]:
    found = {stages: Clicks(kafka, site) for stages in STAGES}
    for clicks in found.values():
        clicks.create(3)
    return found


@pytest.fixture
def home(airflow_home: AirflowHome, topics: dict[str, Clicks], kafka: KafkaBroker, tmp_path: Path) -> AirflowHome:
    connection = {"conn_type": "kafka", "extra": {"bootstrap.servers": kafka.bootstrap}}
    airflow_home.variables |= {
        "AIRFLOW_CONN_EVENTS": json.dumps(connection),
        "AIRFLOW__MLPLATFORM__RUNTIME": "local",
        "AIRFLOW__MLPLATFORM__STAGING": str(tmp_path / "staging"),
        "AIRFLOW__MLPLATFORM__POND": str(tmp_path / "pond"),
    }
    for stages, clicks in topics.items():
        spec = tmp_path / f"{stages}.yaml"
        spec.write_text(SPEC.format(stages=stages, topic=clicks.topic))
        (airflow_home.dags / f"{stages}.py").write_text(DAG.format(path=str(spec), root=str(tmp_path)))
    return airflow_home


def numbers(start: int, stop: int) -> list[Any]:
    return [{"id": number} for number in range(start, stop)]


def run(home: AirflowHome, dag: str) -> str:
    run_id = home.trigger(dag)
    assert home.wait_for_run(dag, run_id, timeout=240.0) == "success", home.tasks(dag, run_id)
    return run_id


def found(site: Site, dag: str) -> list[tuple[Any, ...]]:
    return site.rows(f"pond://{dag}", "select id, twice from input order by id")


def test_a_topic_in_airflow(home: AirflowHome, topics: dict[str, Clicks], site: Site, tmp_path: Path) -> None:
    home.start()
    for stages, clicks in topics.items():
        home.wait_for_dag(stages)
        clicks.send([*numbers(0, 10), b"nope"])
        first = run(home, stages)
        clicks.send(numbers(10, 15))
        second = run(home, stages)
        load = "load" if stages == "separate" else "etl"
        assert [home.xcom(stages, one, load)["rows"] for one in (first, second)] == [10, 5]
        assert found(site, stages) == [(number, 2 * number) for number in range(15)]
        assert site.rows(f"pond://{stages}-bad", "select value from input") == [(b"nope",)]

        clicks.send(numbers(15, 20))
        clear = {"dry_run": False, "dag_run_id": first, "only_failed": False}
        home.send("POST", f"/dags/{stages}/clearTaskInstances", clear)
        assert home.wait_for_run(stages, first, timeout=240.0) == "success"
        assert found(site, stages) == [(number, 2 * number) for number in range(15)], "what it had loaded, again"
        third = run(home, stages)
        assert home.xcom(stages, third, load)["rows"] == 5
        assert found(site, stages) == [(number, 2 * number) for number in range(20)]
        assert "offsets of 3 partitions" in home.task_log(stages, third, "extract" if stages == "separate" else "etl")
    assert not list((tmp_path / "staging").iterdir())
