"""``extract.kafka`` in specs, and the DAG that comes of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_mlplatform.factory.build import build_dag
from airflow_mlplatform.specs.load import load_text

SPEC = """\
apiVersion: mlplatform/v1
kind: etl
name: clicks
schedule: "@hourly"
extract: {kafka: {connection: events, topic: clicks}}
load: {uri: "pond://clicks/{{ ts_nodash }}"}
"""


def problems(text: str) -> list[str]:
    (document,) = load_text(text, "a.yaml")
    return [str(problem) for problem in document.problems]


@pytest.mark.parametrize(
    "kafka",
    [
        "{connection: events, topic: clicks, columns: {id: BIGINT, reason: VARCHAR}, on_error: skip, start: latest}",
        "{connection: events, topic: clicks, format: avro, schema_registry: {connection: schemas, subject: x}}",
        '{connection: e, topic: "{{ params.topic }}", format: raw, key: raw, on_gap: skip,'
        ' on_error: {set_aside: "pond://bad/{{ ds }}", connection: s3}}',
    ],
)
def test_what_is_right(kafka: str) -> None:
    text = SPEC.replace("{connection: events, topic: clicks}", kafka)
    assert problems(text + "params: {topic: {type: string, default: clicks}}\n") == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("topic: clicks}", "topic: clicks, format: xml}", "format"),
        ("topic: clicks}", "topic: clicks, format: avro}", "format avro needs one"),
        ("topic: clicks}", "topic: clicks, schema_registry: {connection: x}}", "the others have none"),
        ("topic: clicks}", "topic: clicks, format: raw, columns: {a: INT}}", "columns are for format: json"),
        ("topic: clicks}", "topic: clicks, columns: {kafka_key: INT}}", "kafka_… is what each record has anyway"),
        ("topic: clicks}", "topic: clicks, columns: {a: INT, A: INT}}", "stands twice but for its case"),
        ("topic: clicks}", "topic: clicks, on_error: {set_aside: pond://bad}}", "a place of its own for what it sets"),
        ("topic: clicks}", "topic: clicks, offset: 3}", "unknown key"),
        ("/{{ ts_nodash }}", "", "each needs a place of its own"),
        ("pond://clicks/{{", "{{", "uri starts with a template"),
    ],
)
def test_what_is_wrong(old: str, new: str, words: str) -> None:
    found = problems(SPEC.replace(old, new))
    assert len(found) == 1
    assert words in found[0]


def test_one_topic_is_read_once() -> None:
    twice = "\n  - {name: a, kafka: {connection: e, topic: t}}\n  - {name: b, kafka: {connection: f, topic: t}}"
    text = re.sub("extract: .*", f"extract:{twice}\ntransform: [{{sql: select * from a join b using (id)}}]", SPEC)
    assert "two sources read the same Kafka topic" in problems(text)[0]


@pytest.mark.parametrize("stages", ["separate", "fused"])
def test_the_dag_has_one_run_at_a_time_and_its_tasks_know_where_progress_lies(stages: str) -> None:
    (document,) = load_text(f"{SPEC}stages: {stages}\nchecks: {{rows: {{min: 0}}}}\n", "a.yaml")
    dag = build_dag(document)
    assert dag.max_active_runs == 1
    assert {task.progress for task in dag.tasks} == {"pond://clicks"}


def test_other_dags_have_as_many_runs_as_ever() -> None:
    text = SPEC.replace("kafka: {connection: events, topic: clicks}", "files: {uri: /data/a.csv}")
    (document,) = load_text(text, str(Path("a.yaml")))
    dag = build_dag(document)
    assert dag.max_active_runs != 1
    assert {task.progress for task in dag.tasks} == {None}


def test_an_operator_alone_takes_the_fixed_part_of_its_load() -> None:
    from airflow_mlplatform.operators.etl import EtlOperator

    source = {"kafka": {"connection": "events", "topic": "clicks"}}
    task = EtlOperator(task_id="a", extract=source, load={"uri": "pond://clicks/by-run/{{ run_id }}.parquet"})
    assert task.progress == "pond://clicks/by-run"
