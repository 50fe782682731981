"""Stages on several tasks: parts of files, containers, and what cannot be."""

from __future__ import annotations

import json

import pytest
from airflow.sdk import DAG
from airflow.sdk.definitions.mappedoperator import MappedOperator

from airflow_mlplatform.exceptions import SpecError
from airflow_mlplatform.operators.container_transform import TRIGGER
from tests.unit.factory.dags import arrows, build, kubernetes

__all__ = ["kubernetes"]

SPLIT = """\
apiVersion: mlplatform/v1
kind: etl
name: clicks
extract: {files: {uri: "s3://raw/clicks/*.csv", split: 8}}
transform:
  - {sql: select * from input, per: part}
  - {sql: select count(*) as n from input}
checks: {rows: {min: 1}}
load: {uri: "pond://clicks"}
"""
CONTAINER = "  - {container: {image: example/clean:1, command: [clean], env: {DAY: '{{ run_id }}'}}}\n"
CONTAINERS = SPLIT.replace(", split: 8", "").replace("  - {sql: select * from input, per: part}\n", CONTAINER)
DEFAULTS = """\
defaults:
  image: example/etl:1
  resources: {cpu: 1, memory: 2Gi, gpu: 1}
  service_account: etl
  env: {LEVEL: info, TOKEN: {secret: shop, key: token}, PASSWORD: {connection: shop}}
  tolerations: [{key: gpu, operator: Exists, effect: NoSchedule}]
  labels: {team: shop}
"""


def mapped(dag: DAG) -> set[str]:
    return {task.task_id for task in dag.tasks if isinstance(task, MappedOperator)}


def test_a_split_etl_lists_once_and_maps_what_runs_per_part() -> None:
    dag = build(SPLIT)
    assert arrows(dag) == {
        "list": {"extract", "transform_1"},
        "extract": {"transform_1"},
        "transform_1": {"transform_2"},
        "transform_2": {"check"},
        "check": {"load"},
        "load": set(),
    }
    assert mapped(dag) == {"extract", "transform_1"}
    assert dag.get_task("transform_2").split == {"extract": "list", "transform_1": "list"}
    # all_success would lose parts of a cleared run that has fewer of them (tests/services/test_etl_split_airflow.py)
    assert dag.get_task("transform_1").trigger_rule == "none_failed"


def test_one_of_several_sources_may_be_split() -> None:
    sources = '[{name: a, files: {uri: "s3://a/*", split: 4}}, {name: b, files: {uri: "s3://b/*", split: 2}}]'
    text = SPLIT.replace('{files: {uri: "s3://raw/clicks/*.csv", split: 8}}', sources)
    text = text.replace("  - {sql: select * from input, per: part}\n", "").replace("from input}", "from a join b}")
    dag = build(text)
    assert mapped(dag) == {"extract_a", "extract_b"}
    assert arrows(dag)["list_a"] == {"extract_a"}
    assert dag.get_task("transform_1").split == {"extract_a": "list_a", "extract_b": "list_b"}


@pytest.mark.usefixtures("kubernetes")
def test_a_container_starts_in_the_triggerer() -> None:
    dag = build(CONTAINERS + DEFAULTS)
    task = dag.get_task("transform_1")
    assert task.start_from_trigger
    assert task.start_trigger_args.trigger_cls == TRIGGER
    plan = task.start_trigger_args.trigger_kwargs["plan"]
    assert (plan["input"], plan["listing"]) == ("extract", None)
    json.dumps(task.start_trigger_args.trigger_kwargs)
    # Its image and its GPU are its own pod's.
    assert task.executor_config == {}
    assert arrows(dag)["extract"] == {"transform_1"}
    assert dag.get_task("transform_2").inputs == {"input": "transform_1"}


@pytest.mark.usefixtures("kubernetes")
def test_a_container_reads_all_parts_or_works_per_part() -> None:
    whole = build(SPLIT.replace("select count(*) as n from input}", "select 1}\n" + CONTAINER.rstrip()))
    assert whole.get_task("transform_3").start_trigger_args.trigger_kwargs["plan"]["listing"] is None
    direct = build(CONTAINERS.replace("*.csv", "*.csv").replace('csv"}', 'csv", split: 8}'))
    assert direct.get_task("transform_1").start_trigger_args.trigger_kwargs["plan"]["listing"] == "list"
    per_part = build(SPLIT.replace("{sql: select * from input, per", "{container: {image: x}, per"))
    assert mapped(per_part) == {"extract", "transform_1"}


@pytest.mark.usefixtures("kubernetes")
def test_what_only_a_worker_can_render_starts_on_a_worker() -> None:
    dag = build(CONTAINERS.replace("'{{ run_id }}'", "\"{{ ti.xcom_pull(task_ids='other') }}\""))
    assert not dag.get_task("transform_1").start_from_trigger


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONTAINERS.replace("load:", "stages: fused\nload:"), r"cannot share this task with other stages.*separate"),
        (
            CONTAINERS.replace("'{{ run_id }}'", "{connection: shop}"),
            r"the Airflow connection 'shop' would stand readab",
        ),
    ],
)
@pytest.mark.usefixtures("kubernetes")
def test_containers_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build(text)


def test_containers_need_kubernetes() -> None:
    for text in (CONTAINERS, CONTAINERS.replace("load:", "stages: fused\nload:")):
        with pytest.raises(SpecError, match=r"\(image 'example/clean:1'\) needs Kubernetes and the runtime is local"):
            build(text)


@pytest.mark.usefixtures("kubernetes")
def test_the_pods_of_stages_have_all_that_the_spec_asks_for() -> None:
    dag = build(SPLIT + DEFAULTS)
    for task in dag.tasks:
        pod = task.executor_config["pod_override"]
        (container,) = pod.spec.containers
        assert (container.name, container.image, pod.spec.service_account_name) == ("base", "example/etl:1", "etl")
        assert container.resources.limits == {"cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1"}
        assert container.resources.requests == {"cpu": "1", "memory": "2Gi"}
        assert [one.to_dict() for one in pod.spec.tolerations] == [
            {"key": "gpu", "operator": "Exists", "effect": "NoSchedule", "value": None, "toleration_seconds": None}
        ]
        assert pod.metadata.labels == {"team": "shop"}
