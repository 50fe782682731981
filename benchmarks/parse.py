"""What it costs to turn specs into DAGs.

First figure: 400 specs of four pod tasks, parsed and built, against (a) the same DAGs written by hand, one Python file
each, and (b) dag-factory with one YAML file each. Every contender runs in a process of its own that has imported what
it needs and has frozen the garbage collector's view of it, as the DAG processor does before it forks; the rounds of the
contenders alternate, and the medians are compared. Goal: at most 1.3 times by hand.

Second figure: what a worker does for one task, from a new process to its DAG, with 2,000 specs in the folder against 1,
on a machine where a DAG processor has run and on a new one (a worker pod). Goal: 1.0 times.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SPECS = 400
MANY = 2000
ROUNDS = 5
IMAGE = "example/etl:1"

SPEC = """\
apiVersion: mlplatform/v1
kind: etl
name: {name}
description: Benchmark
schedule: "@daily"
start: 2026-01-01
defaults: {{image: {image}, resources: {{cpu: 1, memory: 2Gi}}, env: {{LEVEL: info}}}}
extract: {{files: {{uri: "s3://raw/{name}/*.csv"}}}}
transform: [{{sql: "select *, price * quantity as total from input"}}]
checks: {{rows: {{min: 1}}, not_null: [id]}}
load: {{uri: "s3://pond/{name}/{{{{ ds }}}}.parquet"}}
"""
BY_HAND = '''\
import datetime
from airflow.sdk import DAG
from kubernetes.client import models as k8s
from airflow_mlplatform.operators.etl_stages import CheckOperator, ExtractOperator, LoadOperator, TransformOperator

pod = k8s.V1Pod(spec=k8s.V1PodSpec(containers=[k8s.V1Container(
    name="base", image="{image}", env=[k8s.V1EnvVar(name="LEVEL", value="info")],
    resources=k8s.V1ResourceRequirements(
        requests={{"cpu": "1", "memory": "2Gi"}}, limits={{"cpu": "1", "memory": "2Gi"}}))]))
with DAG(
    "{name}", description="Benchmark", schedule="@daily", start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False, tags=["etl"], doc_md="Benchmark",
    default_args={{"owner": "airflow", "retries": 2, "retry_delay": datetime.timedelta(minutes=5),
                   "executor_config": {{"pod_override": pod}}}},
) as dag:
    extract = ExtractOperator(task_id="extract", source={{"files": {{"uri": "s3://raw/{name}/*.csv"}}}}, memory="2Gi")
    transform = TransformOperator(task_id="transform_1", inputs={{"input": "extract"}}, memory="2Gi",
        transforms=[{{"sql": "select *, price * quantity as total from input"}}])
    check = CheckOperator(task_id="check", input="transform_1", memory="2Gi",
        checks={{"rows": {{"min": 1}}, "not_null": ["id"]}})
    load = LoadOperator(task_id="load", input="transform_1", memory="2Gi",
        load={{"uri": "s3://pond/{name}/{{{{{{{{ ds }}}}}}}}.parquet"}})
    extract >> transform >> check >> load
'''.replace("{{{{{{{{", "{{{{").replace("}}}}}}}}", "}}}}")  # fmt: skip
POD_TASK = """\
    {task}:
      operator: airflow.providers.cncf.kubernetes.operators.pod.KubernetesPodOperator
      name: {task}
      image: {image}
      cmds: [python, -m, {task}]
      env_vars: {{LEVEL: info}}
      dependencies: [{after}]
"""
TASKS = ("extract", "transform", "check", "load")


def dag_factory_text(name: str) -> str:
    """Return the DAG in dag-factory's YAML: four KubernetesPodOperators in a row."""
    head = f"{name}:\n  default_args: {{owner: airflow, retries: 2, start_date: 2026-01-01}}\n"
    head += "  description: Benchmark\n  schedule: '@daily'\n  catchup: false\n  tags: [etl]\n  tasks:\n"
    after = ["", *TASKS]
    return head + "".join(POD_TASK.format(task=task, image=IMAGE, after=after[i]) for i, task in enumerate(TASKS))


def write(folder: Path, ending: str, text: Callable[[str], str], count: int) -> None:
    """Write the files of one contender."""
    folder.mkdir()
    for number in range(count):
        name = f"pipeline-{number:04}"
        (folder / f"{name}{ending}").write_text(text(name), "utf-8")


def parse_specs(folder: Path) -> int:
    """Load and build every spec of a folder; return how many tasks there are."""
    from airflow_mlplatform.factory.build import dag_of

    return sum(len(dag_of(str(path), root=str(folder)).tasks) for path in sorted(folder.iterdir()))


def parse_by_hand(folder: Path) -> int:
    """Run every Python file of a folder."""
    tasks = 0
    for path in sorted(folder.iterdir()):
        names: dict[str, object] = {"__file__": str(path), "__name__": path.stem}
        exec(compile(path.read_bytes(), str(path), "exec"), names)
        tasks += len(names["dag"].tasks)  # type: ignore[attr-defined]
    return tasks


def parse_dag_factory(folder: Path) -> int:
    """Let dag-factory build every YAML file of a folder."""
    from airflow.sdk import DAG
    from dagfactory import load_yaml_dags

    tasks = 0
    for path in sorted(folder.iterdir()):
        names: dict[str, object] = {}
        load_yaml_dags(globals_dict=names, config_filepath=str(path))
        tasks += sum(len(dag.tasks) for dag in names.values() if isinstance(dag, DAG))
    return tasks


CONTENDERS = {"specs": parse_specs, "by hand": parse_by_hand, "dag-factory": parse_dag_factory}


def serve_rounds(contender: str, folder: Path) -> None:
    """Run one contender: a round for each line of standard input, its seconds and tasks as the answer."""
    parse = CONTENDERS[contender]
    parse(folder)
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        tasks = parse(folder)
        print(json.dumps([time.process_time() - start, tasks]), flush=True)
        gc.collect()


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a contender: an Airflow of its own on Kubernetes."""
    return os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__MLPLATFORM__RUNTIME": "kubernetes",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
    }


def compare_parsing(work: Path) -> float:
    """Print the first figure and return the ratio to by hand."""
    write(work / "specs", ".yaml", lambda name: SPEC.format(name=name, image=IMAGE), SPECS)
    write(work / "by hand", ".py", lambda name: BY_HAND.format(name=name, image=IMAGE), SPECS)
    write(work / "dag-factory", ".yml", dag_factory_text, SPECS)
    processes = {}
    for name in CONTENDERS:
        command = [sys.executable, __file__, "--contender", name, str(work / name)]
        processes[name] = subprocess.Popen(
            command, env=environment(work), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for process in processes.values():
        while answer(process) != "ready":
            pass
    for _ in range(ROUNDS):
        for name, process in processes.items():
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
            took, tasks = json.loads(answer(process))
            assert tasks == SPECS * len(TASKS), f"{name} built {tasks} tasks"
            seconds[name].append(took)
    for process in processes.values():
        process.communicate()
    return report(seconds)


def answer(process: subprocess.Popen[str]) -> str:
    """Return the next line that a contender prints."""
    assert process.stdout
    line = process.stdout.readline()
    assert line, "a contender ended"
    return line.strip()


def report(seconds: dict[str, list[float]]) -> float:
    """Print medians and ratios."""
    median = {name: statistics.median(rounds) for name, rounds in seconds.items()}
    print(f"{SPECS} DAGs of {len(TASKS)} pod tasks, CPU time, median of {ROUNDS} rounds")
    for name, value in median.items():
        print(f"  {name:<12} {value / SPECS * 1000:6.2f} ms a DAG   {value / median['by hand']:5.2f} × by hand")
    return median["specs"] / median["by hand"]


WORKER = """\
import sys
from airflow_mlplatform.bundle import SpecBundle
from airflow.dag_processing.dagbag import BundleDagBag

bundle = SpecBundle(name=sys.argv[1], path=sys.argv[2])
bundle.initialize()
bag = BundleDagBag(dag_folder=str(bundle.path / "pipeline-0000.yaml.py"), bundle_path=bundle.path,
                   bundle_name=sys.argv[1], safe_mode=False, load_op_links=False)
assert list(bag.dags) == ["pipeline-0000"], bag.import_errors
"""


def children_seconds() -> float:
    """Return the CPU time of the processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def compare_workers(work: Path) -> float:
    """Print the second figure and return the ratio."""
    counts = {"one": 1, "many": MANY, "fresh": MANY}
    for name, count in counts.items():
        write(work / name, ".yaml", lambda name: SPEC.format(name=name, image=IMAGE), count)
    seconds: dict[str, list[float]] = {name: [] for name in counts}
    for turn in range(ROUNDS + 1):
        for name in counts:
            if name == "fresh":
                shutil.rmtree(work / "bundles" / name, ignore_errors=True)
            start = children_seconds()
            command = [sys.executable, "-c", WORKER, name, str(work / name)]
            subprocess.run(command, env=environment(work), check=True, capture_output=True)
            if turn:  # the first one writes the stubs, as the DAG processor has done before any task runs
                seconds[name].append(children_seconds() - start)
    median = {name: statistics.median(rounds) for name, rounds in seconds.items()}
    print(f"one DAG for one task, CPU time from process start, median of {ROUNDS}")
    for name, note in (("one", ""), ("many", ""), ("fresh", ", on a machine that has no stubs yet")):
        print(f"  {counts[name]:>5} specs    {median[name]:6.2f} s   {median[name] / median['one']:5.2f} × one{note}")
    return median["many"] / median["one"]


def main() -> None:
    """Run both comparisons and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        compare_parsing(work)
        compare_workers(work)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contender"]:
        serve_rounds(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
