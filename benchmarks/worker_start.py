"""What a worker pod costs before its task says its first word.

On the cluster that KUBECONFIG names, in the pod of `helm-values/airflow/worker-pod.yaml`, with the image of
`docker/airflow` (IMAGE, or `$IMAGE_REGISTRY/mlplatform-airflow:dev`): a fused ETL spec until the first line of its own
Python transform, which has the rows by then, against a plain `@task` in a Python file. Both again without byte-compiled
files, as in an image that has none, and the spec again with 1,999 others beside it, on a new machine as every pod is.
What the network adds is left out: Airflow's API is answered within the pod, and the specs are there already.

Pod: from asking for the pod to its first process, by the clocks of this machine and of the node. Start: from there to
the task's first line. CPU: of everything in the pod, until it ends.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from kubernetes import client, config

ROUNDS = 5
OTHERS = 1999
TEMPLATE = Path(__file__).parents[1] / "helm-values" / "airflow" / "worker-pod.yaml"
FIRST_LINE = "the task's first line"
NO_BYTECODE = {"PYTHONPYCACHEPREFIX": "/tmp/none", "PYTHONDONTWRITEBYTECODE": "1"}

SPEC = """\
apiVersion: mlplatform/v1
kind: etl
name: measured
start: 2026-01-01
defaults: {resources: {cpu: 1, memory: 2Gi}}
extract: {files: {uri: rows.csv}}
transform: [{python: "said:run"}]
load: {uri: /tmp/pond/rows.parquet}
stages: fused
"""
TRANSFORM = f"""\
def run(table):
    print("{FIRST_LINE}", flush=True)
    return table
"""
PLAIN = f"""\
from airflow.sdk import dag, task

@dag(schedule=None)
def measured():
    @task
    def etl():
        print("{FIRST_LINE}", flush=True)
    etl()

measured()
"""
# Airflow has a dry run of its own, whose answers it does not accept any more.
START = """\
import functools, resource, runpy
earlier = resource.getrusage(resource.RUSAGE_CHILDREN)
import httpx
import airflow.sdk.api.client
from airflow.executors.base_executor import BaseExecutor

NOW = "2026-01-01T00:00:00Z"
RUN = {"dag_id": "measured", "run_id": "r", "run_type": "manual", "state": "running", "consumed_asset_events": [],
       **dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end", "start_date", "run_after"), NOW),
       **dict.fromkeys(("end_date", "conf", "partition_key", "partition_date", "note", "team_name")), "clear_number": 0}

def answer(request):
    if request.url.path.endswith("/run"):
        context = {"dag_run": RUN, "max_tries": 0, "should_retry": False, "task_reschedule_count": 0}
        return httpx.Response(200, json=context)
    return httpx.Response(200, json={"ok": True})

airflow.sdk.api.client.noop_handler = answer
run = functools.partial(BaseExecutor.run_workload, dry_run=True, server="")
BaseExecutor.run_workload = staticmethod(run)
try:
    runpy.run_module("airflow.sdk.execution_time.execute_workload", run_name="__main__")
finally:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print("cpu", sum(one.ru_utime + one.ru_stime for one in used) - earlier.ru_utime - earlier.ru_stime, flush=True)
"""
MAKE_OTHERS = f"""\
import pathlib, shutil
shutil.copytree("/bench/specs", "/tmp/specs")
text = pathlib.Path("/tmp/specs/etl.yaml").read_text()
for number in range({OTHERS}):
    pathlib.Path(f"/tmp/specs/other-{{number}}.yaml").write_text(text.replace("measured", f"other-{{number}}"))
"""
BUNDLES = [
    {"name": "one", "classpath": "airflow_mlplatform.bundle.SpecBundle", "kwargs": {"path": "/bench/specs"}},
    {"name": "many", "classpath": "airflow_mlplatform.bundle.SpecBundle", "kwargs": {"path": "/tmp/specs"}},
    {
        "name": "plain",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": "/bench/dags"},
    },
]
AIRFLOW_CFG = f"""\
[core]
load_examples = False
[dag_processor]
dag_bundle_config_list = {json.dumps(BUNDLES)}
[mlplatform]
runtime = kubernetes
"""
FILES = {
    "specs/etl.yaml": SPEC,
    "specs/rows.csv": "a,b\n1,2\n",
    "specs/said.py": TRANSFORM,
    "dags/plain.py": PLAIN,
    "start.py": START,
    "others.py": MAKE_OTHERS,
}
# Bundle, file in it, and the environment that makes the difference.
CONTENDERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "plain task": ("plain", "plain.py", {}),
    "spec": ("one", "etl.yaml.py", {}),
    "spec among 2,000": ("many", "etl.yaml.py", {}),
    "plain task, no .pyc": ("plain", "plain.py", NO_BYTECODE),
    "spec, no .pyc": ("one", "etl.yaml.py", NO_BYTECODE),
}


def workload(bundle: str, file: str) -> str:
    """Return what the executor hands to the pod."""
    unique = str(uuid4())
    task = {"id": unique, "dag_version_id": unique, "task_id": "etl", "dag_id": "measured", "run_id": "r"}
    counts = {"try_number": 1, "map_index": -1, "pool_slots": 1, "priority_weight": 1}
    whole = {
        "type": "ExecuteTask",
        "token": "",
        "dag_rel_path": file,
        "bundle_info": {"name": bundle},
        "log_path": None,
    }
    return json.dumps({**whole, "ti": {**task, **counts, "queue": "default"}})


def pod(image: str, contender: str) -> dict[str, Any]:
    """Return the worker pod of a contender."""
    bundle, file, environment = CONTENDERS[contender]
    made: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text("utf-8"))
    made["metadata"] = {"generateName": "worker-"}
    container = made["spec"]["containers"][0]
    before = "python /bench/others.py; " if bundle == "many" else ""
    container["image"] = image
    container["args"] = ["bash", "-c", f'{before}echo started; exec python /bench/start.py --json-string "$WORKLOAD"']
    variables = {"WORKLOAD": workload(bundle, file), **environment}
    container["env"] += [{"name": name, "value": value} for name, value in variables.items()]
    container["volumeMounts"].append({"name": "bench", "mountPath": "/bench", "readOnly": True})
    items = [{"key": name.replace("/", "."), "path": name} for name in FILES]
    made["spec"]["volumes"].append({"name": "bench", "configMap": {"name": "bench", "items": items}})
    return made


@contextmanager
def namespace(api: client.CoreV1Api) -> Iterator[str]:
    """Make a namespace with what the worker pods refer to; remove it at the end."""
    name = f"worker-start-{uuid4().hex[:6]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.create_namespace({"metadata": {"name": name, "labels": labels}})
    try:
        api.create_namespaced_service_account(name, {"metadata": {"name": "airflow-worker"}})
        files = {key.replace("/", "."): text for key, text in FILES.items()}
        for config_map, data in (("airflow-config", {"airflow.cfg": AIRFLOW_CFG}), ("bench", files)):
            api.create_namespaced_config_map(name, {"metadata": {"name": config_map}, "data": data})
        yield name
    finally:
        api.delete_namespace(name)


def measure(api: client.CoreV1Api, space: str, image: str, contender: str) -> tuple[float, float, float]:
    """Run one pod; return the seconds until its first process, from there to the first line, and of CPU."""
    asked = time.time()
    name = api.create_namespaced_pod(space, pod(image, contender)).metadata.name
    while (phase := api.read_namespaced_pod(name, space).status.phase) not in ("Succeeded", "Failed"):
        time.sleep(0.5)
    log = api.read_namespaced_pod_log(name, space, timestamps=True, _preload_content=False)
    lines = log.data.decode().splitlines()
    api.delete_namespaced_pod(name, space)
    started, said, cpu = (moment(lines, text) for text in ("started", FIRST_LINE, "cpu "))
    if phase == "Failed" or not (started and said and cpu):
        sys.exit(f"the pod of {contender!r} {phase.lower()}:\n" + "\n".join(lines[-20:]))
    return started[0] - asked, said[0] - started[0], float(cpu[1].split()[-1])


def moment(lines: list[str], text: str) -> tuple[float, str] | None:
    """Return when a line with this text was written, in seconds since 1970, and the line."""
    found = next((line for line in lines if text in line), None)
    return (datetime.fromisoformat(found.split()[0]).timestamp(), found) if found else None


def report(figures: dict[str, list[tuple[float, float, float]]]) -> None:
    """Print medians, and how often the plain task's they are."""
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in figures.items()
    }
    base = medians["plain task"]
    print(f"worker pod, median of {ROUNDS}    pod      start              CPU")
    for name, (until_process, until_line, cpu) in medians.items():
        print(
            f"  {name:<26} {until_process:6.2f} s {until_line:6.2f} s {until_line / base[1]:5.2f} ×"
            f" {cpu:6.2f} s {cpu / base[2]:5.2f} ×"
        )


def main() -> None:
    """Run the contenders in turns and print the figures."""
    image = os.environ.get("IMAGE") or f"{os.environ.get('IMAGE_REGISTRY', '')}/mlplatform-airflow:dev"
    config.load_config()
    api = client.CoreV1Api()
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in CONTENDERS}
    with namespace(api) as space:
        measure(api, space, image, "plain task")  # pulls the image
        for _ in range(ROUNDS):
            for name, rows in figures.items():
                rows.append(measure(api, space, image, name))
    report(figures)


if __name__ == "__main__":
    main()
